"""EfficientViT-B2 classifier."""

_base_ = './efficientvit_b0.py'

model = dict(backbone=dict(arch='b2'), head=dict(in_channels=384, hidden_channels=(2304, 2560)))
