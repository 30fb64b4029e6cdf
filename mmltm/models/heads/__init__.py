from .efficientvit_head import EfficientViTClsHead
from .ib_bound_head import IBEfficientViTClsHead, IBLinearClsHead
from .ssd_head import SSDHead

__all__ = ['EfficientViTClsHead', 'IBEfficientViTClsHead', 'IBLinearClsHead', 'SSDHead']
