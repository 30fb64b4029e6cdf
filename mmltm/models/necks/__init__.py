from .efficientvit_seg_neck import EfficientViTSegNeck
from .simple_fpn import SimpleFPN

__all__ = ['EfficientViTSegNeck', 'SimpleFPN']
