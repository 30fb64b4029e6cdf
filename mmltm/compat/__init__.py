"""Stand-in for mmcv's compiled operators, which mmcv and mmdet cannot be imported without."""

from .finder import install

__all__ = ['install']
