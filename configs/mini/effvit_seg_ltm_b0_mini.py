"""EfficientViT-Seg-B0 with learnable token merging, from scratch on the mini set's label maps, on a CPU in minutes.

    python tools/dataset_converters/make_mini_coco.py generate data/mini_coco
    python tools/train.py configs/mini/effvit_seg_ltm_b0_mini.py

Learning rate 0.002 for a total batch of 8, at 128 x 128 pixels. The vanilla twin:
--cfg-options model.backbone.ratio=None model.backbone.merger=None
"""

_base_ = ['../_base_/models/effvit_seg_b1.py', '../_base_/seg_mini.py']

model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(type='mmltm.LTMEfficientViT', arch='b0', ratio=0.7, merger=dict(type='LTM', num_classes=6)),
    neck=dict(in_channels=(32, 64, 128), width=32, depth=1),
    decode_head=dict(in_channels=32, channels=32, num_classes=6))
custom_hooks = [dict(type='mmltm.IBStatisticsHook')]
