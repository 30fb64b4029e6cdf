"""ViT-Ti with patches of 8 pixels on Imagenette at 128 pixels, 40 epochs beside a trained EfficientViT-B0.

    python tools/train.py configs/imagenette/efficientvit_b0_imagenette128_60e.py --data-root DIR
    python tools/train.py configs/imagenette/vit_t_p8_imagenette128_distilled.py --data-root DIR

As vit_c_imagenette128_distilled.py; in float32.
"""

_base_ = [
    '../_base_/models/vit_t_p8.py',
    '../_base_/datasets/imagenette128.py',
    '../_base_/schedules/imagenette_40e_distilled.py',
]

model = dict(head=dict(num_classes=10))
