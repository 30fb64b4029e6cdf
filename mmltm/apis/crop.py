"""Merging that costs no arithmetic: the physical limit of what any merger can save at the same number of tokens.

For measurements of time alone (``tools/analysis_tools/benchmark.py --mergers LTM Crop``). Tokens are cut off, not
merged, so what the model says is worthless.
"""

from collections.abc import Callable

from torch import Tensor

from mmltm.merging import GridMerger
from mmltm.merging.base import merged_size
from mmltm.merging.grids import Grid, map_to_tokens, tokens_to_map


class CropMerge:
    """The upper left corner of maps, (B, ..., C, H, W), as large as a merged map; their memory layout is kept.

    Args:
        grid (tuple): Height and width of the maps.
        source (tuple): Base window before merging.
        target (tuple): Base window after merging.
    """

    def __init__(self, grid: Grid, source: Grid, target: Grid) -> None:
        self.grid = tuple(grid)
        self.merged_grid = merged_size(self.grid, source, target)

    def merge(self, x: Tensor) -> Tensor:
        """(B, ..., C, H, W) to (B, ..., C, H', W'), a view."""
        return x[..., :self.merged_grid[0], :self.merged_grid[1]]

    def unmerge(self, y: Tensor) -> Tensor:
        """(B, ..., C, H', W') to (B, ..., C, H, W), zeros where there is nothing."""
        x = y.new_zeros(*y.shape[:-3], *self.grid, y.shape[-3]).movedim(-1, -3)
        self.merge(x).copy_(y)
        return x

    def restore(self, full: Tensor, merged: Tensor, update: Tensor) -> Tensor:
        """The map before merging but for its corner, which is ``update``: every way back writes so much."""
        full = full.clone()
        self.merge(full).copy_(update)
        return full

    def detour(self, tokens: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """A function of the tokens in the corner, and zeros elsewhere, (B, H W, C)."""
        corner = map_to_tokens(self.merge(tokens_to_map(tokens, self.grid)))
        return map_to_tokens(self.unmerge(tokens_to_map(function(corner), self.merged_grid)))


class Crop(GridMerger):
    """Cuts the tokens of one block off that merging would take away, and brings back nothing."""

    def operator(self, x: Tensor) -> CropMerge:
        return CropMerge(x.shape[-2:], self.source, self.target)
