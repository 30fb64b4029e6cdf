"""MobileViT-XXS classifier."""

_base_ = './mobilevit_s.py'

model = dict(backbone=dict(arch='xx_small'), head=dict(in_channels=320))
