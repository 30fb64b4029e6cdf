"""From result files to what people and machines read: Markdown tables and OpenMMLab's model index."""

from .blocks import block
from .markdown import fill

__all__ = ['block', 'fill']
