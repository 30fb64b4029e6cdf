"""Fine-tuning of the masks alone on Imagenette, whose epochs have an eighth of ImageNet's steps."""

_base_ = './masks_only.py'

train_cfg = dict(max_epochs=5)
optim_wrapper = dict(optimizer=dict(lr=5e-2))
auto_scale_lr = dict(base_batch_size=64)
randomness = dict(seed=0)
