from .simple_fpn import SimpleFPN
from .ssdlite_neck import SSDLiteNeck

__all__ = ['SSDLiteNeck', 'SimpleFPN']
