"""The two interfaces of token merging: what merges a map, and what decides how.

A **merge operator** merges the tokens of feature maps of one size, as a rule by a linear map, and leads back. A
**merger** belongs to one block of a network. It looks at the block's tokens and returns an operator
(:class:`GridMerger`), or, if it keeps no grid, fewer tokens (:class:`~mmltm.merging.sequences.SequenceMerger`).

Every merger class says itself what it needs and how the blocks of a backbone share the work. To add one, derive from
either class and register it, see ``docs/add_a_merger.md``.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from mmltm.errors import UserError
from mmltm.ib.constants import KeepsConstants

from .grids import (
    Grid,
    as_grid,
    check_ratios,
    map_to_tokens,
    separate_schedule,
    tile_axis,
    tokens_to_map,
    window_schedule,
)
from .windowed import WindowedMerge


class MergeOperator(Protocol):
    """Merging of maps of one size, and the way back. What derives from it needs to say ``merge`` and ``unmerge`` alone.

    Maps are (B, ..., C, H, W), before merging of the size ``grid``, after it of ``merged_grid``; channels may come last
    in memory, and the groups of tokens in the dimensions between are merged alike.
    """
    grid: Grid
    merged_grid: Grid

    def merge(self, x: Tensor) -> Tensor:
        """G^T x: (B, ..., C, H, W) to (B, ..., C, H', W')."""

    def unmerge(self, y: Tensor) -> Tensor:
        """U y: (B, ..., C, H', W') to (B, ..., C, H, W)."""

    def restore(self, full: Tensor, merged: Tensor, update: Tensor) -> Tensor:
        """All tokens, with what merged tokens have gained: full + U (update - merged), for merged = G^T full."""
        return full + self.unmerge(update - merged)

    def detour(self, tokens: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """U f(G^T x) of tokens (B, H W, C), for a function of single tokens."""
        update = function(map_to_tokens(self.merge(tokens_to_map(tokens, self.grid))))
        return map_to_tokens(self.unmerge(tokens_to_map(update, self.merged_grid)))


#: For every block of every stage the arguments its merger is built with, or None where it merges nothing.
Plan = list[list[dict | None]]


class Host(NamedTuple):
    """What a backbone offers to mergers.

    Attributes:
        depths (Sequence[int]): Number of merging blocks of every stage.
        embed_dims (Sequence[int]): Channels of a token in every stage.
        progressive (bool): A block merges what the block before has left over; else every block sees the full grid.
        sequences (str): What mergers that keep no grid can do: 'none' (nothing, a convolution follows), 'layers' (merge
            pairs within windows, for single layers between convolutions), 'windows' (merge within windows, for an MLP
            alone), 'tokens' (let all tokens of an image go on), 'class_token' (the same, with a class token among
            them).
        mlp_ratios (Sequence[float]): Hidden channels of every stage's MLPs over its channels.
        strides (Sequence[int]): Of the grid of tokens that every stage begins with, in pixels.
        restores (bool): A stage ends with all its tokens; else the next one begins with what it has left.
        groups (int): How many neighbouring maps merge alike; their channels together are ``embed_dims``.
    """
    depths: Sequence[int]
    embed_dims: Sequence[int]
    progressive: bool = True
    sequences: str = 'none'
    mlp_ratios: Sequence[float] | None = None
    strides: Sequence[int] = ()
    restores: bool = True
    groups: int = 1

    @property
    def in_windows(self) -> bool:
        """Whether mergers that keep no grid merge within windows, and all tokens come back behind every merge."""
        return self.sequences in ('layers', 'windows')

    def grid(self, stage: int, size: Grid) -> Grid:
        """The grid that a stage begins with, of images of ``size`` pixels."""
        return math.ceil(size[0] / self.strides[stage]), math.ceil(size[1] / self.strides[stage])

    def by_stage(self, blocks: Sequence[Any]) -> list[list[Any]]:
        """A flat list with an entry a block, cut into stages."""
        entries = iter(blocks)
        return [[next(entries) for _ in range(depth)] for depth in self.depths]


class Merger(nn.Module):
    """Base of everything that merges the tokens of one block.

    Attributes:
        amounts (tuple[str]): Settings of a config any one of which says how many tokens are kept: 'ratio', 'r', 'p'.
        default_amount (dict): What is taken where none of them is given; empty if one must be.
        ratio_per_block (bool): Whether ``ratio`` is the share of tokens that a block keeps.
        has_windows (bool): Whether ``window`` and ``rounding`` of a config mean anything.
        random_init (bool): Whether results depend on the seed before any training.
        has_loss (bool): Whether training needs a loss term of its own.
        keeps_grid (bool): Whether merged tokens form a map again that means the same in every image.
        presets (dict): By name, settings that stand in for defaults where a backbone's ``preset`` asks for them.
        active (bool): False: the block keeps all its tokens.
    """
    amounts: ClassVar[tuple[str, ...]] = ('ratio', )
    default_amount: ClassVar[dict] = {}
    ratio_per_block: ClassVar[bool] = True
    has_windows: ClassVar[bool] = True
    random_init: ClassVar[bool] = False
    has_loss: ClassVar[bool] = False
    keeps_grid: ClassVar[bool] = True
    presets: ClassVar[dict[str, dict]] = {'paper': {}}
    active: bool = True

    @classmethod
    def refusal(cls, host: Host) -> str | None:
        """Why blocks of such a backbone cannot use this merger, as the end of a sentence, or None."""
        return None

    @classmethod
    def plan(cls, config: dict, host: Host) -> Plan:
        """What the merger of every block is built with, by a config without ``type``; a ValueError if it cannot be."""
        raise NotImplementedError


class GridMerger(KeepsConstants, Merger):
    """Merges the tokens of one block, a map, into a smaller map, window by window or as a whole.

    Args:
        source, target (tuple): Base window before, (h, w), N = h w tokens, and after merging, (h', w'), P = h' w'.
        embed_dims (int): Channels D of a token.
        first (bool): No block of the network merges before this one. Defaults to False.
        base (tuple, optional): The window before the first of the merges that this one goes on from. Defaults to
            ``source``.
        whole (bool): A map of any size is one window, and keeps the share of rows and columns that the base window
            does. Defaults to False.
        groups (int): Maps of an image that merge alike. Defaults to 1.
    """
    presets = {'paper': dict(window=None, rounding='ceil')}

    def __init__(self, source: Grid, target: Grid, embed_dims: int, first: bool = False, base: Grid | None = None,
                 whole: bool = False, groups: int = 1) -> None:
        super().__init__()
        self.source: Grid = tuple(source)
        self.target: Grid = tuple(target)
        self.base: Grid = self.source if base is None else tuple(base)
        self.embed_dims, self.first, self.whole, self.groups = embed_dims, first, whole, groups

    def windows(self, grid: Grid) -> tuple[Grid, Grid]:
        """The window before and after merging of maps of a size."""
        if not self.whole:
            return self.source, self.target
        if any(isinstance(side, torch.SymInt) for side in grid):
            raise UserError('window=None makes one mask for maps of one size: fix the height and width of this graph')
        return grid, tuple(max(1, math.floor(side * after / before + 0.5))
                           for side, before, after in zip(grid, self.source, self.target))

    def windowed(self, x: Tensor, matrices: Callable[[Grid, Grid], tuple[Tensor, Tensor]]) -> WindowedMerge:
        """The merging of maps like ``x`` by matrices, G and U, (N, P) each, for a tile before and after merging."""
        grid = as_grid(x.shape[-2:])
        return WindowedMerge(grid, *self.windows(grid), matrices)

    def constant_operator(self, x: Tensor, matrices: Callable[[Grid, Grid], tuple[Tensor, Tensor]],
                          of: tuple[str, ...] = (), after: Any = None) -> WindowedMerge:
        """As :meth:`windowed`, by matrices that are constants: see :meth:`~mmltm.ib.constants.KeepsConstants.kept`."""

        def kept(source: Grid, target: Grid) -> tuple[Tensor, Tensor]:
            return self.kept((source, target, x.device), lambda: matrices(source, target), of, after)

        grid = as_grid(x.shape[-2:])
        if any(isinstance(side, torch.SymInt) for side in grid):
            return self.windowed(x, kept)
        return self.kept((*grid, x.device), lambda: self.windowed(x, kept).collapse(), of, after)

    def operator(self, x: Tensor) -> MergeOperator:
        """The merging of maps like ``x``, (B, ..., C, H, W)."""
        raise NotImplementedError

    def forward(self, x: Tensor, carry: Any = None) -> tuple[MergeOperator | None, Any]:
        """The merging of maps like ``x``, (B, ..., C, H, W), or None, and what the next block needs to know.

        ``carry`` is what the merger of the block before, of the same type, has handed on so; None in the first.
        """
        return (self.operator(x) if self.active else None), carry

    @classmethod
    def plan(cls, config: dict, host: Host) -> Plan:
        config = dict(config)
        whole = config.get('window', 7) is None
        pairs = host.by_stage(_window_pairs(config, host, host.progressive))
        plan: Plan = []
        first = True
        for stage, channels in zip(pairs, host.embed_dims):
            plan.append([])
            for source, target, ratio in stage:
                # A mask of the paper's that its rounding leaves square still weighs the tokens anew.
                if ratio == 1 or source == target and not whole:
                    plan[-1].append(None)
                    continue
                base = stage[0][0] if host.progressive else source
                plan[-1].append(dict(config, source=source, target=target, embed_dims=channels, first=first, base=base,
                                     whole=whole, groups=host.groups))
                first = False
        return plan

    def extra_repr(self) -> str:
        return f'source={self.source}, target={self.target}'


def window_sides(window: int | Sequence[int]) -> Grid:
    """Height and width of a base window, given as one side or both."""
    return (window, window) if isinstance(window, int) else tuple(window)


def _window_pairs(config: dict, host: Host, progressive: bool) -> list[tuple[Grid, Grid, float]]:
    """Base window before and after every block's merge, and the block's ratio; takes its settings off the config."""
    ratios = check_ratios(config.pop('ratio'), sum(host.depths))
    window, size = config.pop('window', 7), window_sides(config.pop('img_size', 224))
    rounding = config.pop('rounding', 'area')
    pairs: list[tuple[Grid, Grid, float]] = []
    # Separate merges of equal windows make good what those of other stages take or leave, too.
    stages = host.by_stage(ratios) if progressive or window is None else [ratios]
    for index, stage in enumerate(stages):
        source = host.grid(index, size) if window is None else window_sides(window)
        if progressive:
            grids = window_schedule(source, stage, rounding)
            pairs += zip(grids, grids[1:], stage)
            if not host.restores:
                size = grids[-1][0] * host.strides[index], grids[-1][1] * host.strides[index]
        else:
            pairs += [(source, *merge) for merge in zip(separate_schedule(source, stage, rounding), stage)]
    return pairs


def merged_size(grid: Grid, source: Grid, target: Grid) -> Grid:
    """Height and width of a map after its windows have been merged."""
    return tuple(sum(tile.repeat * tile.merged for tile in tile_axis(*sides)) for sides in zip(grid, source, target))
