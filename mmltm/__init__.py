"""Learnable token merging (LTM) for OpenMMLab.

Vision backbones whose transformer blocks merge their tokens by a learnt mask (Wang and Yang, "Efficient Visual
Transformer by Learnable Token Merging", TPAMI 2025, arXiv 2407.15219), for mmpretrain, mmdetection and
mmsegmentation.
"""

import importlib

from mmltm import compat, mim

__version__ = '0.1.0'

# Must precede the first import of mmcv.ops, wherever that happens.
compat.install()
mim.install()

# Imported on first use: importing mmltm stays cheap, and takes none of mmpretrain's modules along.
_LAZY = dict(apply_ltm='mmltm.models.apply', deploy='mmltm.models.deploy', get_model='mmltm.apis.model',
             list_models='mmltm.models.zoo')

__all__ = ['__version__', *_LAZY]


def __getattr__(name: str):
    if name not in _LAZY:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(_LAZY[name]), name)
