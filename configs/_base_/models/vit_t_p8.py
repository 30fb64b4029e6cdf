"""ViT-Ti classifier with patches of 8 pixels for small images."""

_base_ = './vit_t.py'

model = dict(backbone=dict(img_size=128, patch_size=8))
