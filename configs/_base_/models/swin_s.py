"""Swin-S classifier."""

_base_ = 'mmpretrain::_base_/models/swin_transformer/small_224.py'

model = dict(train_cfg=None)  # Mixup and CutMix belong to the data sets here.
