"""LTM-EfficientViT-B0 from scratch on Imagenette at 128 pixels, masks by the information bottleneck (Algorithm 1).

    python tools/train.py configs/ltm_effvit_b0_imagenette128.py --data-root DIR

DIR holds `train/` and `val/` with a folder of images a class. Learning rate 0.002 for a total batch of 128.
"""

_base_ = ['mmpretrain::_base_/default_runtime.py']

num_classes = 10
size = 128
max_epochs = 20
t_warm = 6  # epochs without merging, the paper's third of the training

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmltm.LTMEfficientViT', arch='b0', merger=dict(type='LTM', ratio=0.7, num_classes=num_classes)),
    head=dict(
        type='mmltm.EfficientViTClsHead',
        num_classes=num_classes,
        in_channels=128,
        hidden_channels=(1024, 1280),
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1)))
data_preprocessor = dict(
    num_classes=num_classes, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)

dataset = dict(type='CustomDataset', data_root='data/imagenette128')
train_dataloader = dict(
    batch_size=128,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        **dataset,
        data_prefix='train',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='RandomResizedCrop', scale=size, crop_ratio_range=(0.35, 1.0)),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='PackInputs'),
        ]))
val_dataloader = dict(
    batch_size=128,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **dataset,
        data_prefix='val',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='ResizeEdge', scale=size, edge='short'),
            dict(type='CenterCrop', crop_size=size),
            dict(type='PackInputs'),
        ]))
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=1)
test_evaluator = val_evaluator

train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=128)
optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=0.002, betas=(0.9, 0.999), weight_decay=0.01),
    # Weight decay would pull every mask logit to the point where its entry is a coin toss.
    paramwise_cfg=dict(norm_decay_mult=0., bias_decay_mult=0., custom_keys={'mergers': dict(decay_mult=0.)}))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, begin=0, end=2, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=2e-4, by_epoch=True, begin=2, end=max_epochs, convert_to_iter_based=True),
]
custom_hooks = [dict(type='mmltm.IBStatisticsHook', t_warm=t_warm)]
