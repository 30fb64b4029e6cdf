from .efficientvit_seg_neck import EfficientViTSegNeck
from .simple_fpn import SimpleFPN
from .ssdlite_neck import SSDLiteNeck

__all__ = ['EfficientViTSegNeck', 'SSDLiteNeck', 'SimpleFPN']
