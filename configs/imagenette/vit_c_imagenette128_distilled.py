"""A small ViT with a convolutional stem from scratch on Imagenette at 128 pixels, 40 epochs, in bfloat16.

    python tools/train.py configs/imagenette/efficientvit_b0_imagenette128_60e.py --data-root DIR
    python tools/train.py configs/imagenette/vit_c_imagenette128_distilled.py --data-root DIR

It learns from the trained EfficientViT-B0, too: 9469 images are few for a transformer (Touvron et al., "Training
data-efficient image transformers & distillation through attention", arXiv 2012.12877). Learning rate 0.001 for a
total batch of 64.
"""

_base_ = [
    '../_base_/models/vit_c.py',
    '../_base_/datasets/imagenette128.py',
    '../_base_/schedules/imagenette_40e_distilled.py',
]

model = dict(head=dict(num_classes=10))
optim_wrapper = dict(type='mmltm.BFloat16OptimWrapper')
