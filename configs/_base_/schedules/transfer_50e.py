"""Fine-tuning of all weights on another data set. The learning rate follows `train_cfg.max_epochs`."""

_base_ = './adamw.py'

train_cfg = dict(by_epoch=True, max_epochs=50, val_interval=1)
# Masks start anew and have farther to go than weights.
optim_wrapper = dict(
    optimizer=dict(lr=1e-4), paramwise_cfg=dict(custom_keys={'.mergers': dict(lr_mult=10.)}))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=64)
