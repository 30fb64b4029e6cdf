"""The mini set's label maps at 128 x 128 pixels, for minutes on a CPU by AdamW; the model is left to say.

Learning rate 0.002 for a total batch of 8. Scores are of 256 x 256 pixels, the size of the label maps.
"""

_base_ = [
    'mmseg::_base_/schedules/schedule_160k.py',
    'mmseg::_base_/default_runtime.py',
]

data_root = 'data/mini_coco/'
scale = (128, 128)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='Resize', scale=scale),
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
dataset = dict(
    type='BaseSegDataset', data_root=data_root,
    metainfo=dict(classes=('background', 'circle', 'rectangle', 'triangle', 'star', 'cross')))
train_dataloader = dict(
    batch_size=8, num_workers=1, persistent_workers=True, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(data_prefix=dict(img_path='train2017', seg_map_path='annotations/train2017'),
                 pipeline=train_pipeline, **dataset))
val_dataloader = dict(
    batch_size=4, num_workers=1, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(data_prefix=dict(img_path='val2017', seg_map_path='annotations/val2017'),
                 pipeline=test_pipeline, **dataset))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator

max_iters = 900
train_cfg = dict(max_iters=max_iters, val_interval=450)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=60),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=0, T_max=max_iters, end=max_iters),
]
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=0.002, weight_decay=0.05),
    clip_grad=dict(_delete_=True, max_norm=10),
    # Weight decay would pull every mask logit to the point where its entry is a coin toss.
    paramwise_cfg=dict(norm_decay_mult=0., custom_keys={'mergers': dict(decay_mult=0.)}))
auto_scale_lr = dict(enable=False, base_batch_size=8)
randomness = dict(seed=0)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=max_iters))
