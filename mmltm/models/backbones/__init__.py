from .conv_stem import ConvStem
from .efficientvit import EfficientViT
from .ltm_efficientvit import LTMEfficientViT
from .ltm_mobilevit import LTMMobileViT
from .ltm_swin import LTMSwin
from .ltm_vision_transformer import LTMVisionTransformer

__all__ = ['ConvStem', 'EfficientViT', 'LTMEfficientViT', 'LTMMobileViT', 'LTMSwin', 'LTMVisionTransformer']
