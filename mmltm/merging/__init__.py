"""Token merging in pure PyTorch: grids, linear operators, and one file per merger."""

from .crop import Crop
from .evit import EViT
from .grids import check_ratios, window_schedule
from .ltm import LTM
from .ltmp import LTMP
from .operators import WindowedMerge, least_squares_inverse, normalize_mask
from .pooling import AvgPool
from .random import Random
from .soft import SoftMerging
from .tofu import ToFu
from .tome import ToMe

__all__ = ['LTM', 'LTMP', 'AvgPool', 'Crop', 'EViT', 'Random', 'SoftMerging', 'ToFu', 'ToMe', 'WindowedMerge',
           'check_ratios', 'least_squares_inverse', 'normalize_mask', 'window_schedule']
