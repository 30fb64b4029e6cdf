from .efficientvit_head import EfficientViTClsHead
from .ib_bound_head import IBEfficientViTClsHead, IBLinearClsHead

__all__ = ['EfficientViTClsHead', 'IBEfficientViTClsHead', 'IBLinearClsHead']
