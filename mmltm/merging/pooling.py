"""Merging by masks that depend on nothing: local averaging, the floor of what a learnt mask has to beat.

The merged grids, the way back and the cost are those of LTM at the same ratio; the mask alone differs.
"""

from torch import Tensor

from .base import GridMerger
from .grids import Grid, local_overlap
from .masks import least_squares_inverse
from .windowed import WindowedMerge


class FixedMask(GridMerger):
    """Merges the tokens of one block by a mask that is given, window by window."""

    def mask(self, source: Grid, target: Grid) -> Tensor:
        """G of a tile, (N, P), every column of which sums to 1."""
        raise NotImplementedError

    def operator(self, x: Tensor) -> WindowedMerge:
        device = x.device

        def matrices(source: Grid, target: Grid) -> tuple[Tensor, Tensor]:
            mask = self.mask(source, target).float().to(device)
            return mask, least_squares_inverse(mask)

        return self.constant_operator(x, matrices)


class AvgPool(FixedMask):
    """Every merged token is the mean of the area of the map that it takes the place of, as LTM's are at first."""

    def mask(self, source: Grid, target: Grid) -> Tensor:
        overlap = local_overlap(source, target)
        return overlap / overlap.sum(0)
