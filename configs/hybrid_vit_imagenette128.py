"""A hybrid of EfficientViT-B0's first stages, trained before, and a small ViT, on Imagenette at 128 pixels.

    python tools/train.py configs/efficientvit_b0_imagenette128.py --data-root DIR
    python tools/train.py configs/hybrid_vit_imagenette128.py --data-root DIR

Ten epochs bring a plain transformer to an accuracy that it does not reach from scratch on so few images: a bed to test
token mergers on. Learning rate 0.001 for a total batch of 64.
"""

_base_ = [
    './_base_/models/hybrid_vit.py',
    './_base_/datasets/imagenette128.py',
    './_base_/schedules/imagenette_30e.py',
]

# The stem's weights; other ones by --cfg-options model.backbone.stem.init_cfg.checkpoint=PATH.
model = dict(
    backbone=dict(
        stem=dict(
            init_cfg=dict(
                type='Pretrained',
                checkpoint='work_dirs/efficientvit_b0_imagenette128/epoch_30.pth',
                prefix='backbone.'))))
train_cfg = dict(max_epochs=10)
optim_wrapper = dict(optimizer=dict(lr=1e-3), paramwise_cfg=dict(custom_keys={'.stem': dict(lr_mult=0.5)}))
