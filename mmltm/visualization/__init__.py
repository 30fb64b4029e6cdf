"""Pictures of what token merging does."""

from .composition import Composition
from .recorder import MergeRecorder, RecordedMerge
from .sheet import Sheet, View, draw_sheets, to_picture, view

__all__ = ['Composition', 'MergeRecorder', 'RecordedMerge', 'Sheet', 'View', 'draw_sheets', 'to_picture', 'view']
