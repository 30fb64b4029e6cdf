"""ViT-S classifier."""

_base_ = './vit_t.py'

model = dict(backbone=dict(arch='deit-small'), head=dict(in_channels=384))
