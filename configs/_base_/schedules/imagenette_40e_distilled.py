"""From scratch on Imagenette for 40 epochs, beside a trained EfficientViT-B0. Learning rate for a total batch of 64."""

_base_ = './imagenette_30e.py'

train_cfg = dict(max_epochs=40, val_interval=5)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
custom_imports = dict(imports='harness.distillation_hook', allow_failed_imports=True)  # which the tools find
# The teacher's checkpoint; another one by --cfg-options custom_hooks.0.checkpoint=PATH.
custom_hooks = [
    dict(
        type='mmltm.DistillationHook',
        config='configs/imagenette/efficientvit_b0_imagenette128_60e.py',
        checkpoint='work_dirs/efficientvit_b0_imagenette128_60e/epoch_60.pth',
        weight=2.)
]
