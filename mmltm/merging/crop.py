"""Merging that costs no arithmetic: the physical limit of what any merger can save at the same number of tokens.

For measurements of time alone (``tools/analysis_tools/benchmark.py --mergers LTM Crop``). Tokens are cut off, not
merged, so what the model says is worthless.
"""

from collections.abc import Callable
from typing import Optional

import torch.nn as nn
from torch import Tensor

from .grids import Grid, tile_axis
from .operators import map_to_tokens, tokens_to_map


class CropMerge:
    """The upper left corner of maps, (B, ..., C, H, W), as large as a merged map; their memory layout is kept.

    Args:
        grid (tuple): Height and width of the maps.
        source (tuple): Base window before merging.
        target (tuple): Base window after merging.
    """

    def __init__(self, grid: Grid, source: Grid, target: Grid) -> None:
        self.grid = tuple(grid)
        self.merged_grid = tuple(sum(tile.count * tile.merged for tile in tile_axis(*sides))
                                 for sides in zip(grid, source, target))

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


class Crop(nn.Module):
    """Cuts the tokens of one block off that merging would take away, and brings back nothing.

    Args:
        source (tuple): Base window (h, w) before merging.
        target (tuple): Base window (h', w') after merging.
        embed_dims (int): Channels of a token, of no effect.
        first (bool): First merging block of the network, of no effect. Defaults to False.
    """

    def __init__(self, source: Grid, target: Grid, embed_dims: int, first: bool = False) -> None:
        super().__init__()
        self.source, self.target = tuple(source), tuple(target)

    def forward(self, x: Tensor, carry: Optional[None] = None) -> tuple[CropMerge, None]:
        """The operator for maps like ``x``, (B, ..., C, H, W); nothing is handed on to the next block."""
        return CropMerge(x.shape[-2:], self.source, self.target), None
