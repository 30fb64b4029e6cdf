"""Mergers of sequences in blocks whose tokens must stay on their grid: for the block's MLP only, window by window."""

from collections.abc import Callable

from torch import Tensor

from .base import Merger
from .grids import Grid, as_grid
from .sequences import History, SequenceMerger
from .windowed import map_windows


class Detour(Merger):
    """A merger of sequences for a block whose tokens must stay on their grid: for its MLP only, window by window.

    Every base window is a sequence of its own, so the cost grows with the pixels, not with their square. The
    merger must have windows, and be content with tokens alone.
    """
    keeps_grid = False

    def __init__(self, merger: SequenceMerger) -> None:
        super().__init__()
        self.merger = merger

    def forward(self, x: Tensor, carry: None = None) -> tuple['SequenceDetour | None', None]:
        return SequenceDetour(self.merger, as_grid(x.shape[-2:])) if self.active else None, None


class SequenceDetour:
    """What :class:`Detour` offers maps of the size ``grid``."""

    def __init__(self, merger: SequenceMerger, grid: Grid) -> None:
        self.merger, self.grid = merger, grid

    def detour(self, tokens: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """What a function of single tokens gives for the merged ones, brought back, (B, H W, C) to (B, H W, C)."""

        def through(window: Tensor, keep: int) -> Tensor:
            merged, history = self.merger(window, None, History.whole(window), keep, class_token=False)
            return history.restore(function(merged))

        return map_windows(tokens, self.grid, self.merger.source, self.merger.target, through)
