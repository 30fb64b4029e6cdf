"""A linear classifier on ViT-B of DINOv2, whose weights stay, for a data set of your own.

    python tools/train.py configs/custom/dinov2_b_linear_custom.py --data-root DIR
        --cfg-options model.head.num_classes=37

DIR holds `train/` and `val/` with a folder of images a class. Learning rate 0.001 for a total batch of 16.
"""

_base_ = [
    '../_base_/models/dinov2_b.py',
    '../_base_/datasets/custom_518.py',
    '../_base_/schedules/transfer_50e.py',
]

num_classes = 10
pretrained = ('https://mmassets.onedl.ai/mmpretrain/v1.0/dinov2/'
              'vit-base-p14_dinov2-pre_3rdparty_20230426-ba246503.pth')
model = dict(
    backbone=dict(
        frozen_stages=12, init_cfg=dict(type='Pretrained', checkpoint=pretrained, prefix='backbone.')),
    head=dict(num_classes=num_classes))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
auto_scale_lr = dict(base_batch_size=16)
