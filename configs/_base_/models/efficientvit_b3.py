"""EfficientViT-B3 classifier."""

_base_ = './efficientvit_b0.py'

model = dict(backbone=dict(arch='b3'), head=dict(in_channels=512, hidden_channels=(2304, 2560)))
