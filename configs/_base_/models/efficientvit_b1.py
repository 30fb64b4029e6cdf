"""EfficientViT-B1 classifier."""

_base_ = './efficientvit_b0.py'

model = dict(backbone=dict(arch='b1'), head=dict(in_channels=256, hidden_channels=(1536, 1600)))
