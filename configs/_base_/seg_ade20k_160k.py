"""ADE20K at 512 x 512 pixels for 160,000 iterations by AdamW, as mmseg trains Swin; the model is left to say.

Learning rate 0.00006 for a total batch of 16 (8 GPUs x 2 images).
"""

_base_ = [
    'mmseg::_base_/datasets/ade20k.py',
    'mmseg::_base_/schedules/schedule_160k.py',
    'mmseg::_base_/default_runtime.py',
]

# Whether zero is a class is for the data set to say, so that it is said once.
train_dataloader = _base_.train_dataloader
train_dataloader.batch_size = 2
val_dataloader = _base_.val_dataloader
train_dataloader.dataset.pipeline[1].reduce_zero_label = None
val_dataloader.dataset.pipeline[2].reduce_zero_label = None
test_dataloader = val_dataloader
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', eta_min=0.0, power=1.0, by_epoch=False, begin=1500, end=160000),
]
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=0.00006, betas=(0.9, 0.999), weight_decay=0.01),
    paramwise_cfg=dict(custom_keys={
        'relative_position_bias_table': dict(decay_mult=0.),
        'norm': dict(decay_mult=0.),
        # Weight decay would pull every mask logit to the point where its entry is a coin toss.
        'mergers': dict(decay_mult=0.)}))
auto_scale_lr = dict(enable=False, base_batch_size=16)
