"""Mask R-CNN on LTM-EfficientViT-B1 on the mini set, for two CPU cores; all else as with B0.

    python tools/dataset_converters/make_mini_coco.py generate data/mini_coco
    python tools/train.py configs/mini/mask_rcnn_ltm_effvit_b1_mini.py

Learning rate 0.002 for a total batch of 2.
"""

_base_ = './mask_rcnn_ltm_effvit_mini.py'

model = dict(backbone=dict(arch='b1'), neck=dict(in_channels=[64, 128, 256]))
max_epochs = 16
train_cfg = dict(max_epochs=max_epochs, val_interval=8)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, T_max=max_epochs, end=max_epochs,
         convert_to_iter_based=True),
]
