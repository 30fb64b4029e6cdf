"""EfficientViT-Seg-B1 with learnable token merging at ratio 0.7, ADE20K semantic segmentation.

    python tools/train.py configs/effvit_seg_ltm_b1_160k_ade20k.py [--data-root DIR]
    bash tools/dist_train.sh configs/effvit_seg_ltm_b1_160k_ade20k.py 8

Total batch 16 (8 GPUs x 2 images). Another ratio: --cfg-options model.backbone.ratio=0.5. All else as in the vanilla
twin, but that masks take steps on the information-bottleneck bound, by statistics of the label maps' classes; without
them: --cfg-options model.backbone.merger.num_classes=None
"""

_base_ = './effvit_seg_b1_160k_ade20k.py'

model = dict(backbone=dict(type='mmltm.LTMEfficientViT', ratio=0.7, merger=dict(type='LTM', num_classes=150)))
custom_hooks = [dict(type='mmltm.IBStatisticsHook')]
