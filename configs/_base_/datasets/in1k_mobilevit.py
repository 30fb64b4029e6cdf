"""ImageNet-1k for MobileViT, which sees BGR images in [0, 1]."""

_base_ = './in1k.py'

data_preprocessor = dict(mean=[0, 0, 0], std=[255, 255, 255], to_rgb=False)
