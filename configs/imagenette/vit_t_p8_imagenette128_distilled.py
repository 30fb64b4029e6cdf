"""ViT-Ti with patches of 8 pixels on Imagenette at 128 pixels, 40 epochs beside a trained EfficientViT-B0.

    python tools/train.py configs/imagenette/efficientvit_b0_imagenette128_60e.py --data-root DIR
    python tools/train.py configs/imagenette/vit_t_p8_imagenette128_distilled.py --data-root DIR

As vit_c_imagenette128_distilled.py; in float32.
"""

_base_ = './vit_t_p8_imagenette128.py'

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
