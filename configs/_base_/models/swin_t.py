"""Swin-T classifier."""

_base_ = 'mmpretrain::_base_/models/swin_transformer/tiny_224.py'

model = dict(train_cfg=None)  # Mixup and CutMix belong to the data sets here.
