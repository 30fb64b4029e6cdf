"""Mask R-CNN on LTM-EfficientViT-B0, small enough to learn the mini set on two CPU cores in minutes.

    python tools/dataset_converters/make_mini_coco.py generate data/mini_coco
    python tools/train.py configs/mini/mask_rcnn_ltm_effvit_mini.py

Learning rate 0.002 for a total batch of 2, from scratch, at 256 x 256 pixels.
"""

_base_ = '../mask_rcnn_ltm_effvit_b1_1x.py'

data_root = 'data/mini_coco/'
classes = ('circle', 'rectangle', 'triangle', 'star', 'cross')
scale = (256, 256)
channels = 64
# Without pre-trained weights, necks and heads learn faster with normalisation; not by batch statistics, since the
# RoIs sampled for training are other ones than those of a test.
norm_cfg = dict(type='GN', num_groups=16)

# Levels of stride 8 to 32 are enough for the set's objects and spare the costly finest one.
# Two samples a bin are what its size asks for, or nearly; leaving the number to each box takes longer.
roi_extractor = dict(
    out_channels=channels, featmap_strides=[8, 16, 32], roi_layer=dict(sampling_ratio=2))
model = dict(
    backbone=dict(arch='b0', out_indices=(2, 3, 4), merger=dict(num_classes=len(classes))),
    neck=dict(in_channels=[32, 64, 128], out_channels=channels, num_outs=4, norm_cfg=norm_cfg),
    rpn_head=dict(
        in_channels=channels,
        feat_channels=channels,
        anchor_generator=dict(scales=[4], strides=[8, 16, 32, 64])),
    roi_head=dict(
        bbox_roi_extractor=roi_extractor,
        bbox_head=dict(
            type='ConvFCBBoxHead',
            num_shared_fcs=1,
            num_shared_convs=2,
            in_channels=channels,
            conv_out_channels=channels,
            fc_out_channels=256,
            num_classes=len(classes),
            norm_cfg=norm_cfg),
        mask_roi_extractor=roi_extractor,
        mask_head=dict(
            in_channels=channels,
            num_convs=2,
            conv_out_channels=channels,
            num_classes=len(classes),
            norm_cfg=norm_cfg)),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=128)),
        rpn_proposal=dict(nms_pre=500, max_per_img=200),
        rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=100)))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
dataset = dict(data_root=data_root, metainfo=dict(classes=classes))
train_dataloader = dict(batch_size=2, num_workers=1, dataset=dict(pipeline=train_pipeline, **dataset))
val_dataloader = dict(batch_size=4, num_workers=1, dataset=dict(pipeline=test_pipeline, **dataset))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator

max_epochs = 24
train_cfg = dict(max_epochs=max_epochs, val_interval=12)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, T_max=max_epochs, end=max_epochs,
         convert_to_iter_based=True),
]
optim_wrapper = dict(optimizer=dict(lr=0.002), clip_grad=dict(max_norm=10))
auto_scale_lr = dict(base_batch_size=2)
randomness = dict(seed=0)
default_hooks = dict(logger=dict(interval=10))
