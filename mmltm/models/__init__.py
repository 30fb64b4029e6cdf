"""Backbones and heads, registered under ``mmltm``."""

from .backbones import EfficientViT, LTMEfficientViT
from .heads import EfficientViTClsHead
from .mergers import TOKEN_MERGERS

__all__ = ['EfficientViT', 'EfficientViTClsHead', 'LTMEfficientViT', 'TOKEN_MERGERS']
