"""Mergers of sequences in blocks whose tokens must stay on their grid: for what sees them one by one, in windows."""

from collections.abc import Callable

from torch import Tensor

from .base import Merger
from .grids import Grid, as_grid
from .sequences import History, SequenceMerger, take
from .tome import Matching, ToMe
from .windowed import map_windows


class Detour(Merger):
    """A merger of sequences for a block whose tokens must stay on their grid: window by window, and all come back.

    Every base window is a sequence of its own, so the cost grows with the pixels, not with their square. The
    merger must have windows, and be content with tokens alone. With ``layers`` it must match pairs: see
    :class:`LayerDetour`.
    """
    keeps_grid = False

    def __init__(self, merger: SequenceMerger, layers: bool = False) -> None:
        super().__init__()
        self.merger, self.kind = merger, LayerDetour if layers else SequenceDetour

    def forward(self, x: Tensor, carry: None = None) -> tuple['SequenceDetour | None', None]:
        return self.kind(self.merger, as_grid(x.shape[-2:])) if self.active else None, None


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


class LayerDetour(SequenceDetour):
    """As :class:`SequenceDetour`, for several layers of a block: the first finds the pairs, the others merge them too.

    Layers may change the channels. A token that has merged, or was dropped, gets what its partner gets.
    """
    merger: ToMe

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.matchings: list[Matching | None] = []

    def detour(self, tokens: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        known = iter(self.matchings) if self.matchings else None

        def through(window: Tensor, keep: int) -> Tensor:
            matching = self.merger.match(window, keep) if known is None else next(known)
            if known is None:
                self.matchings.append(matching)
            if matching is None:
                return function(window)
            merged, _ = self.merger.fuse(window, window.new_ones(window.shape[:2]), matching)
            return take(function(merged), matching.indices())

        return map_windows(tokens, self.grid, self.merger.source, self.merger.target, through)
