"""Fine-tuning of the masks alone on Imagenette, whose epochs have an eighth of ImageNet's steps."""

_base_ = './masks_only.py'

train_cfg = dict(max_epochs=5)
# Gain and layer of the steps at the learning rates of ImageNet.
optim_wrapper = dict(
    optimizer=dict(lr=5e-2),
    paramwise_cfg=dict(custom_keys={'.step_gain': dict(lr_mult=0.2), '.step_weight': dict(lr_mult=0.04)}))
custom_hooks = _base_.custom_hooks
custom_hooks[1].initial_images = 2000
auto_scale_lr = dict(base_batch_size=64)
randomness = dict(seed=0)
