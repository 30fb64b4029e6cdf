from .conv_stem import ConvStem
from .efficientvit import EfficientViT
from .ltm_efficientvit import LTMEfficientViT
from .ltm_mobilevit import LTMMobileViT
from .ltm_swin import LTMSwin
from .ltm_swin_v2 import LTMSwinV2
from .ltm_vision_transformer import LTMVisionTransformer
from .ltm_vit_sam import LTMViTSAM

__all__ = [
    'ConvStem', 'EfficientViT', 'LTMEfficientViT', 'LTMMobileViT', 'LTMSwin', 'LTMSwinV2', 'LTMViTSAM',
    'LTMVisionTransformer'
]
