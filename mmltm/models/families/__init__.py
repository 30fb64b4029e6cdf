"""The families of backbones, one file each."""

from . import efficientvit, mobilevit, swin, vision_transformer  # noqa: F401  (register themselves)
from .base import FAMILIES, Architecture, Family, Layout, register_family, registered_type

__all__ = ['FAMILIES', 'Architecture', 'Family', 'Layout', 'register_family', 'registered_type']
