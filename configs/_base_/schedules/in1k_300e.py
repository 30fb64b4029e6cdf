"""300 epochs from scratch on ImageNet-1k (LTM paper, section 4.1).

The learning rate rises from 2e-4 to 2e-3 in 10 epochs, then falls to 2e-4 along a cosine.
"""

_base_ = './adamw.py'

train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, begin=0, end=10, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=2e-4, by_epoch=True, begin=10, convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=1024)
