"""The families of backbones, one file each."""

from . import efficientvit, mobilevit, swin, swin_v2, vision_transformer, vit_sam  # noqa: F401  (register themselves)
from .base import FAMILIES, POOLING, Architecture, Family, Layout, register_family, registered_type

__all__ = ['FAMILIES', 'POOLING', 'Architecture', 'Family', 'Layout', 'register_family', 'registered_type']
