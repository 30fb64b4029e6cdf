"""Imagenette at 128 pixels for MobileViT, which sees BGR images in [0, 1]."""

_base_ = './imagenette128.py'

data_preprocessor = dict(mean=[0, 0, 0], std=[255, 255, 255], to_rgb=False)
