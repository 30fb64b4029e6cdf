"""Data transforms that mmltm adds to those of mmcv, mmdet and mmpretrain."""

from mmltm.datasets.loading import LoadImage, LoadImageOrSkip, Resizing

__all__ = ['LoadImage', 'LoadImageOrSkip', 'Resizing']
