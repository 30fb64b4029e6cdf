"""Token merging in pure PyTorch: grids, linear operators, and one file per merger."""

from .grids import check_ratios, window_schedule
from .ltm import LTM
from .operators import WindowedMerge, least_squares_inverse, normalize_mask

__all__ = ['LTM', 'WindowedMerge', 'check_ratios', 'least_squares_inverse', 'normalize_mask', 'window_schedule']
