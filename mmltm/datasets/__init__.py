"""Data transforms that mmltm adds to those of mmcv, mmdet and mmpretrain."""

from mmltm.datasets.loading import LoadImageOrSkip

__all__ = ['LoadImageOrSkip']
