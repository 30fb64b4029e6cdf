"""Token merging in pure PyTorch: grids, linear operators, and one file per merger."""

from .base import GridMerger, Host, MergeOperator, Merger
from .cubist import CubistMerge
from .evit import EViT
from .grids import check_ratios, window_schedule
from .learning import class_targets, finish_epoch
from .ltm import LTM
from .ltmp import LTMP
from .masks import least_squares_inverse, normalize_mask
from .pooling import AvgPool
from .random import Random
from .sequences import SequenceMerger
from .soft import SoftMerging
from .tofu import ToFu
from .tome import ToMe
from .windowed import WindowedMerge

__all__ = ['LTM', 'LTMP', 'AvgPool', 'CubistMerge', 'EViT', 'GridMerger', 'Host', 'MergeOperator', 'Merger', 'Random',
           'SequenceMerger', 'SoftMerging', 'ToFu', 'ToMe', 'WindowedMerge', 'check_ratios', 'class_targets',
           'finish_epoch', 'least_squares_inverse', 'normalize_mask', 'window_schedule']
