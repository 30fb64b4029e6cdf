"""Backbones and heads, registered under ``mmltm``."""

from .backbones import EfficientViT, LTMEfficientViT, LTMMobileViT, LTMSwin, LTMVisionTransformer
from .heads import EfficientViTClsHead
from .mergers import TOKEN_MERGERS

__all__ = [
    'EfficientViT', 'EfficientViTClsHead', 'LTMEfficientViT', 'LTMMobileViT', 'LTMSwin', 'LTMVisionTransformer',
    'TOKEN_MERGERS'
]
