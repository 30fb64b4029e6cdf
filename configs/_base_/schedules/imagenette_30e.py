"""From scratch on Imagenette: the ImageNet recipe in small. The schedule follows `train_cfg.max_epochs`."""

_base_ = './adamw.py'

train_cfg = dict(by_epoch=True, max_epochs=30, val_interval=1)
optim_wrapper = dict(optimizer=dict(weight_decay=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=450),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=64)
randomness = dict(seed=0)
