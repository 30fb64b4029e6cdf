"""EfficientViT-B0 with learnable token merging, a classifier of drawn shapes at 48 pixels for detectors to start from.

    python tools/dataset_converters/make_mini_coco.py generate data/mini_scenes --num-train 2400 --size 128x128 --seed 1
    python tools/dataset_converters/make_mini_coco.py crops data/mini_scenes data/mini_crops --size 48
    python tools/train.py configs/mini/ltm_efficientvit_b0_mini.py

Learning rate 0.006 for a total batch of 64.
"""

_base_ = ['../_base_/models/efficientvit_b0.py', '../_base_/schedules/adamw.py']

model = dict(
    backbone=dict(type='mmltm.LTMEfficientViT', merger=dict(type='LTM', ratio=0.7, num_classes=5)),
    head=dict(num_classes=5, hidden_channels=(128, 128)))

data_root = 'data/mini_crops'
data_preprocessor = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True, num_classes=5)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=48, crop_ratio_range=(0.85, 1.0), aspect_ratio_range=(1., 1.)),
    dict(type='RandomFlip', prob=[0.25, 0.25, 0.25], direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
dataset = dict(type='CustomDataset', data_root=data_root)
train_dataloader = dict(
    batch_size=64, num_workers=1, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'), drop_last=True,
    dataset=dict(data_prefix='train2017', pipeline=train_pipeline, **dataset))
val_dataloader = dict(
    batch_size=64, num_workers=1, persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(data_prefix='val2017', pipeline=test_pipeline, **dataset))
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=1)
test_evaluator = val_evaluator

max_epochs = 5
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=60),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, T_max=max_epochs, end=max_epochs,
         convert_to_iter_based=True),
]
optim_wrapper = dict(optimizer=dict(lr=0.006, weight_decay=0.05, fused=True))
custom_hooks = [dict(type='mmltm.IBStatisticsHook', initial_images=640), dict(type='mmltm.ChannelsLastHook')]
auto_scale_lr = dict(base_batch_size=64)
randomness = dict(seed=0)
default_hooks = dict(logger=dict(interval=10, ignore_last=False))
