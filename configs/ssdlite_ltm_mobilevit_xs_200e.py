"""SSDLite, MobileViT-XS with learnable token merging at ratio 0.7, COCO detection at 320 x 320 pixels, 200 epochs.

    python tools/train.py configs/ssdlite_ltm_mobilevit_xs_200e.py [--data-root DIR]
    bash tools/dist_train.sh configs/ssdlite_ltm_mobilevit_xs_200e.py 8

Total batch 128 (8 GPUs x 16 images). Another ratio: --cfg-options model.backbone.ratio=0.5. All else as in the
vanilla twin, but that masks take steps on the information-bottleneck bound, by statistics of the head's classes;
without them: --cfg-options model.backbone.merger.num_classes=None
"""

_base_ = './ssdlite_mobilevit_xs_200e.py'

model = dict(backbone=dict(ratio=0.7, merger=dict(type='LTM', num_classes=80)))
custom_hooks = [*_base_.custom_hooks, dict(type='mmltm.IBStatisticsHook', fit_projection=True)]
