from .efficientvit import EfficientViT
from .ltm_efficientvit import LTMEfficientViT

__all__ = ['EfficientViT', 'LTMEfficientViT']
