"""Merging by masks that depend on nothing: local averaging, the floor of what a learnt mask has to beat.

The merged grids, the way back and the cost are those of LTM at the same ratio; the mask alone differs.
"""

from torch import Tensor

from mmltm.ib.precision import autocast_off

from .base import GridMerger
from .grids import Grid, local_overlap
from .masks import least_squares_inverse
from .windowed import WindowedMerge


class FixedMask(GridMerger):
    """Merges the tokens of one block by a mask that is given, window by window."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._operators: dict[tuple, WindowedMerge] = {}

    def mask(self, source: Grid, target: Grid) -> Tensor:
        """G of a tile, (N, P), every column of which sums to 1."""
        raise NotImplementedError

    def operator(self, x: Tensor) -> WindowedMerge:
        key = (*x.shape[-2:], x.device)
        if key not in self._operators:

            def matrices(source: Grid, target: Grid) -> tuple[Tensor, Tensor]:
                mask = self.mask(source, target).float().to(x.device)
                return mask, least_squares_inverse(mask)

            with autocast_off(x):
                self._operators[key] = WindowedMerge(x.shape[-2:], *self.windows(x.shape[-2:]), matrices).collapse()
        return self._operators[key]

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        self._operators.clear()
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict:
        return {**self.__dict__, '_operators': {}}


class AvgPool(FixedMask):
    """Every merged token is the mean of the area of the map that it takes the place of, as LTM's are at first."""

    def mask(self, source: Grid, target: Grid) -> Tensor:
        overlap = local_overlap(source, target)
        return overlap / overlap.sum(0)
