from importlib.util import find_spec

from .efficientvit_head import EfficientViTClsHead
from .ib_bound_head import IBEfficientViTClsHead, IBLinearClsHead

__all__ = ['EfficientViTClsHead', 'IBEfficientViTClsHead', 'IBLinearClsHead']

if find_spec('mmdet'):  # classifiers need none
    from .ssd_head import SSDHead  # noqa: F401

    __all__ += ['SSDHead']
