"""Mask R-CNN with FPN on COCO instances for 12 epochs by AdamW; the backbone is left to say.

From mmdet's Mask R-CNN on ResNet-50. Learning rate 0.001, for convolutional backbones, and a total batch of 16
(8 GPUs x 2 images).
"""

_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    'mmdet::_base_/datasets/coco_instance.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
]

max_epochs = 12
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, T_max=max_epochs, end=max_epochs,
         convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=max_epochs)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=0.001, betas=(0.9, 0.999), weight_decay=0.05),
    # Weight decay would pull every mask logit to the point where its entry is a coin toss.
    paramwise_cfg=dict(norm_decay_mult=0., custom_keys={'mergers': dict(decay_mult=0.)}))
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2, save_best='coco/segm_mAP'))
