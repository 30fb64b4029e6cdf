"""Mask R-CNN, ViT-B of DINOv2 with learnable token merging at ratio 0.7, COCO instance segmentation, 12 epochs.

    python tools/train.py configs/mask_rcnn_ltm_dinov2_b_1x.py [--data-root DIR] --amp
    bash tools/dist_train.sh configs/mask_rcnn_ltm_dinov2_b_1x.py 8 --amp

Total batch 16 (8 GPUs x 2 images). Another ratio: --cfg-options model.backbone.ratio=0.5. All else as in the vanilla
twin, but that masks take steps on the information-bottleneck bound, by statistics of the head's classes; without
them: --cfg-options model.backbone.merger.num_classes=None
"""

_base_ = './mask_rcnn_dinov2_b_1x.py'

model = dict(backbone=dict(ratio=0.7, merger=dict(type='LTM', num_classes=80)))
custom_hooks = [dict(type='mmltm.IBStatisticsHook', fit_projection=True)]
