"""Learnable token merging (LTM) for OpenMMLab.

Vision backbones whose transformer blocks merge their tokens by a learnt mask
(Wang and Yang, "Efficient Visual Transformer by Learnable Token Merging",
TPAMI 2025, arXiv 2407.15219), for mmpretrain and mmdetection.
"""

from mmltm import compat

__version__ = '0.1.0'

# Must precede the first import of mmcv.ops, wherever that happens.
compat.install()

__all__ = ['__version__']
