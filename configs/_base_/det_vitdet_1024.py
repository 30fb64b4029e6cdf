"""Mask R-CNN of ViTDet on COCO instances at 1024 x 1024 pixels for 100 epochs; the backbone is left to say.

After the recipe of Li, Mao, Girshick and He (ECCV 2022), as mmdet's project ViTDet has it: large scale jittering, layer
normalisation in pyramid and heads, a learning rate that decays from layer to layer. For a total batch of 64.
"""

_base_ = ['mmdet::_base_/models/mask-rcnn_r50_fpn.py', 'mmdet::common/lsj-100e_coco-instance.py']

size = (1024, 1024)
norm = dict(type='mmpretrain.LN2d')
model = dict(
    data_preprocessor=dict(
        pad_size_divisor=32,
        batch_augments=[dict(type='BatchFixedSizePad', size=size, img_pad_value=0, pad_mask=True, mask_pad_value=0)]),
    backbone=dict(
        _delete_=True,
        type='mmltm.LTMViTSAM',
        img_size=size,
        out_channels=0),
    neck=dict(_delete_=True, type='mmltm.SimpleFPN'),
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=dict(type='Shared4Conv1FCBBoxHead', conv_out_channels=256, norm_cfg=norm),
        mask_head=dict(norm_cfg=norm)))

test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='Resize', scale=size, keep_ratio=True),
    dict(type='Pad', size=size, pad_val=dict(img=(114, 114, 114))),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(batch_size=8, num_workers=8)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(
    constructor='mmltm.LayerDecayConstructor',
    optimizer=dict(_delete_=True, type='AdamW', lr=0.0001, betas=(0.9, 0.999), weight_decay=0.1),
    paramwise_cfg=dict(
        norm_decay_mult=0.,
        # Weight decay would pull every mask logit to the point where its entry is a coin toss.
        custom_keys={name: dict(decay_mult=0.) for name in ('mergers', 'pos_embed', 'rel_pos')}))
# 25 epochs of four rounds each; the rate falls at 89 and 96% of them.
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(type='MultiStepLR', by_epoch=True, milestones=[22, 24], gamma=0.1),
]
default_hooks = dict(checkpoint=dict(save_best='coco/segm_mAP'))
