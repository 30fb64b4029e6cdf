"""ViT-B classifier."""

_base_ = './vit_t.py'

model = dict(backbone=dict(arch='deit-base', drop_path_rate=0.1), head=dict(in_channels=768))
