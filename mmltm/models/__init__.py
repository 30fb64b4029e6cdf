"""Backbones, necks and heads, registered under ``mmltm``."""

from importlib.util import find_spec

from .backbones import (
    EfficientViT,
    LTMEfficientViT,
    LTMMobileViT,
    LTMSwin,
    LTMSwinV2,
    LTMVisionTransformer,
    LTMViTSAM,
)
from .heads import EfficientViTClsHead
from .lora import LTMLoRAModel
from .mergers import TOKEN_MERGERS
from .necks import EfficientViTSegNeck, SimpleFPN

__all__ = [
    'EfficientViT', 'EfficientViTClsHead', 'EfficientViTSegNeck', 'LTMEfficientViT', 'LTMLoRAModel', 'LTMMobileViT',
    'LTMSwin', 'LTMSwinV2', 'LTMViTSAM', 'LTMVisionTransformer', 'SimpleFPN', 'TOKEN_MERGERS'
]

if find_spec('mmdet'):  # classifiers need none
    from .tta import InstanceTTAModel  # noqa: F401

    __all__ += ['InstanceTTAModel']
