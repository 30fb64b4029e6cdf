"""Backbones, necks and heads, registered under ``mmltm``."""

from .backbones import EfficientViT, LTMEfficientViT, LTMMobileViT, LTMSwin, LTMVisionTransformer
from .heads import EfficientViTClsHead
from .lora import LTMLoRAModel
from .mergers import TOKEN_MERGERS
from .necks import SimpleFPN

__all__ = [
    'EfficientViT', 'EfficientViTClsHead', 'LTMEfficientViT', 'LTMLoRAModel', 'LTMMobileViT', 'LTMSwin',
    'LTMVisionTransformer', 'SimpleFPN', 'TOKEN_MERGERS'
]
