"""Classifier on the class token of DINOv2's ViT-B, at 518 pixels."""

_base_ = './vit_b.py'

model = dict(backbone=dict(
    arch='base', img_size=518, patch_size=14, layer_scale_init_value=1e-5, drop_path_rate=0.))
