"""ViT-Ti with patches of 8 pixels with learnable token merging, from scratch on Imagenette at 128 pixels.

    python tools/train.py configs/imagenette/ltm_vit_t_p8_imagenette128.py --data-root DIR

30 epochs, the first 10 without merging; all else as in the vanilla twin. Fewer epochs:
--cfg-options train_cfg.max_epochs=15 custom_hooks.0.t_warm=5
"""

_base_ = ['./vit_t_p8_imagenette128.py', '../_base_/hooks/ib_imagenette_30e.py']

model = dict(
    backbone=dict(type='mmltm.LTMVisionTransformer', merger=dict(type='LTM', ratio=0.7, num_classes=10)))
