"""Geometry of token grids: how far a grid shrinks, which source cells a target cell covers.

A mask G belongs to a base window of ``source = (h, w)`` cells, N = h w, which it merges into
``target = (h', w')`` cells, P = h' w'. Masks are written (N, P), rows and columns in row-major order of their
grids. Everything here is pure geometry: nothing is learnt.
"""

import math
from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmltm.errors import UserError

#: Height and width.
Grid = tuple[int, ...]

ROUNDINGS = ('area', 'nearest', 'product', 'ceil')
#: What the share of a merge, or the product of several, may be off for the sake of whole sides.
TOLERANCE = 0.05


def as_number(size: Any) -> int:
    """The size of a dimension, which ``torch.jit.trace`` gives as a tensor, as a number.

    A symbol of ``torch.export`` stays one; ``torch.compile`` makes a graph for every size.
    """
    if torch.compiler.is_dynamo_compiling():
        return len(range(size))  # a range wants to know the number, which int does not
    return int(size) if isinstance(size, Tensor) else size


def as_grid(sides: Sequence[Any]) -> Grid:
    """Height and width as numbers, see :func:`as_number`."""
    return tuple(map(as_number, sides))


def check_ratios(ratio: float | Sequence[float], depth: int) -> list[float]:
    """One kept share a block, from one number for all or a list of ``depth`` numbers; else a ValueError."""
    ratios: list[Any] = list(ratio) if isinstance(ratio, (list, tuple)) else [ratio] * depth
    if len(ratios) != depth:
        raise ValueError(f'ratio has {len(ratios)} values for {depth} merging blocks; give one number or {depth}')
    for value in ratios:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
            raise ValueError(f'ratio must be in (0, 1], the share of tokens that is kept; got {value!r}')
    return [float(value) for value in ratios]


def shrink_grid(grid: Grid, ratio: float, rounding: str) -> Grid:
    """The grid whose sides are those of ``grid`` times sqrt(ratio), as rounded by :func:`window_schedule`."""
    # The tolerance keeps 7 * sqrt(1.0) from becoming 8 under ceil.
    sides = [max(1.0, side * math.sqrt(ratio)) for side in grid]
    if rounding == 'product':
        wanted = ratio * math.prod(grid)
        heights, widths = ({math.floor(side), math.ceil(side - 1e-9)} for side in sides)
        around = list(product(heights, widths))
        return min(around, key=lambda g: (abs(math.prod(g) - wanted), abs(g[0] - g[1]), g))
    height, width = (math.ceil(side - 1e-9) if rounding == 'ceil' else math.floor(side + 0.5) for side in sides)
    return height, width


@cache
def _nearest_grid(window: Grid, grid: Grid, ratio: float, wanted: float) -> Grid:
    """Of all grids that fit into ``grid``, the one nearest to a share of it, to ``wanted`` tokens, and to a shape."""

    def cost(new: Grid) -> tuple[bool, float]:
        tokens = math.prod(new)
        share = abs(tokens / math.prod(grid) - ratio) / TOLERANCE
        total = abs(tokens / wanted - 1) / TOLERANCE
        # What is off by no more than the tolerance in either comes first.
        return max(share, total) > 1, share**2 + total**2 + 2 * _elongation(new, window)**2

    return min(_smaller_grids(grid), key=cost)


def _smaller_grids(grid: Grid) -> list[Grid]:
    return list(product(range(1, grid[0] + 1), range(1, grid[1] + 1)))


def _elongation(grid: Grid, window: Grid) -> float:
    """0 for a grid that is shaped as the window, more the longer or wider it is."""
    return abs(math.log(grid[0] * window[1] / (grid[1] * window[0])))


def check_rounding(rounding: str) -> None:
    """A ValueError for what is none of :data:`ROUNDINGS`."""
    if rounding not in ROUNDINGS:
        raise ValueError(f'rounding must be one of {ROUNDINGS}, got {rounding!r}')


def window_schedule(window: Grid, ratios: Sequence[float], rounding: str = 'area') -> list[Grid]:
    """Grids of a window before and after each of ``len(ratios)`` consecutive merges.

    Args:
        window (tuple): Height and width.
        ratios (Sequence[float]): Share of its own tokens that each merge keeps, in (0, 1]; 1 leaves a grid alone.
        rounding (str): 'area' chooses sides such that a merge keeps its ratio within 0.05, and with the merges before
            it the product of their ratios within 5%. Where no whole sides do both, because few tokens are left or a
            ratio is above 1 - 1 / side, it comes as near to both as it can, and the next merge makes good what this
            one took. 'ceil' rounds up what the ratio leaves of the sides at hand, as the paper does, and stalls on
            small grids. 'nearest' and 'product' are the defaults of version 0.1, of EfficientViT and MobileViT the one,
            of ViT and Swin the other: what the product leaves of the window's sides, rounded to the nearest integer,
            or up or down for the nearest number of tokens. Defaults to 'area'.

    Returns:
        list[tuple]: ``len(ratios) + 1`` grids, never growing, the first of them ``window``.
    """
    check_rounding(rounding)
    kept, grids = 1.0, [window]
    for ratio in ratios:
        kept *= ratio
        before = grids[-1]
        if ratio == 1:
            grid = before
        elif rounding == 'area':
            grid = _nearest_grid(window, before, ratio, max(1.0, kept * math.prod(window)))
        elif rounding == 'ceil':
            grid = shrink_grid(before, ratio, rounding)
        else:
            grid = shrink_grid(window, kept, rounding)
        grids.append((min(grid[0], before[0]), min(grid[1], before[1])))
    return grids


def separate_schedule(window: Grid, ratios: Sequence[float], rounding: str = 'area') -> list[Grid]:
    """Grids that ``len(ratios)`` merges, each of the whole window, leave of it.

    With 'area' every merge keeps its ratio within 0.05, or as nearly as whole sides allow. Of the grids that do, each
    merge takes the one that makes good what the merges before it took or left, so that the mean over n merges is off by
    no more than 0.05 / n where there are grids on either side of the ratio, and else no more than the nearest grid is.
    Grids that keep as many tokens take turns: 7 x 7 at 0.7 becomes now 5 x 7 and now 7 x 5.
    """
    check_rounding(rounding)
    tokens, owed = math.prod(window), 0.0
    grids: list[Grid] = []
    for ratio in ratios:
        if ratio == 1 or rounding in ('nearest', 'ceil'):
            grids.append(shrink_grid(window, ratio, rounding))
            continue
        owed += ratio * tokens
        if rounding == 'product':
            grids.append(shrink_grid(window, min(1.0, max(0.0, owed / tokens)), rounding))
            owed -= math.prod(grids[-1])
            continue
        off = {grid: abs(math.prod(grid) / tokens - ratio) for grid in _smaller_grids(window)}
        least = max(TOLERANCE, min(off.values()))
        near = [grid for grid in off if off[grid] <= least]
        grids.append(min(near, key=lambda grid: (
            round(abs(owed - math.prod(grid)), 6), round(_elongation(grid, window), 6), grids.count(grid))))
        owed -= math.prod(grids[-1])
    return grids


def share_for_mean(window: Grid, mean: float, depth: int, rounding: str = 'area') -> float:
    """Share of its own tokens that each block must keep for the mean kept share over all blocks to be ``mean``.

    Of 1,000 shares it is the largest for which the mean, over ``depth`` blocks the last of which merges nothing, of the
    share of the window that :func:`window_schedule` leaves comes nearest.
    """

    def error(share: float) -> float:
        grids = window_schedule(window, [share] * (depth - 1) + [1.0], rounding)[1:]
        return abs(sum(h * w for h, w in grids) / (depth * window[0] * window[1]) - mean)

    return min((step / 1000 for step in range(1000, 0, -1)), key=error)


class AxisTile(NamedTuple):
    """``repeat`` neighbouring tiles of ``size`` cells on one axis, each of which becomes ``merged`` cells."""
    start: int
    size: int
    repeat: int
    merged: int


def tile_axis(length: int, source: int, target: int) -> list[AxisTile]:
    """Cut an axis into windows of ``source`` cells, from its origin, and what remains at its end.

    No cell is padded, and a longer axis leaves the windows before its end as they were. The remainder is a smaller
    window of its own and shrinks at least as much as a whole one, lest large maps with a remainder keep a larger share
    than those without. A remainder too short for that joins the window before it; such a window, and an axis shorter
    than a window, become the nearest number of cells.
    """
    count, rest = length // source, length % source
    if not rest:
        return [AxisTile(0, source, count, target)]
    if isinstance(rest, torch.SymInt):
        raise UserError(f'maps of a graph whose height and width are free must be filled by windows of {source} '
                        "tokens: let both be multiples, as 224 * torch.export.Dim('height'), or fix them")
    if count and rest * target >= source:
        return [AxisTile(0, source, count, target), AxisTile(count * source, rest, 1, rest * target // source)]
    tiles = [AxisTile(0, source, count - 1, target)] if count > 1 else []
    size = rest + (source if count else 0)
    return tiles + [AxisTile(length - size, size, 1, max(1, math.floor(size * target / source + 0.5)))]


def _axis_reach(source: int, target: int) -> Tensor:
    """How far each source cell reaches into each of ``target`` equal intervals, or, below 0, how far off it lies."""
    edges = torch.arange(target + 1, dtype=torch.float64) * source / target
    cells = torch.arange(source, dtype=torch.float64)[:, None]
    return torch.minimum(cells + 1, edges[None, 1:]) - torch.maximum(cells, edges[None, :-1])


def axis_overlap(source: int, target: int) -> Tensor:
    """Share of each source cell that lies in each of ``target`` equal intervals, (source, target); rows sum to 1."""
    return _axis_reach(source, target).clamp(min=0)


def local_overlap(source: Grid, target: Grid) -> Tensor:
    """Share of each source cell that lies in each target cell, (N, P): local averaging before normalisation."""
    return torch.kron(axis_overlap(source[0], target[0]), axis_overlap(source[1], target[1]))


def local_gap(source: Grid, target: Grid) -> Tensor:
    """Distance (sum over both axes, in source cells) from each source to each target cell, (N, P)."""
    rows, cols = (_axis_reach(*sides).neg().clamp(min=0) for sides in zip(source, target))
    return (rows[:, None, :, None] + cols[None, :, None, :]).reshape(math.prod(source), math.prod(target))


def resample_mask(mask: Tensor, source: Grid, target: Grid, new_source: Grid, new_target: Grid) -> Tensor:
    """Carry (..., N, P) masks to other grids, (..., N', P'), bilinearly on the source grid and on the target grid."""
    if (source, target) == (new_source, new_target):
        return mask
    (n, p), (new_n, new_p) = (math.prod(source), math.prod(target)), (math.prod(new_source), math.prod(new_target))
    batch = mask.shape[:-2]
    out = mask.reshape(-1, n, p).transpose(-2, -1).reshape(-1, p, *source)
    out = F.interpolate(out, size=new_source, mode='bilinear', align_corners=False)
    out = out.reshape(-1, p, new_n).transpose(-2, -1).reshape(-1, new_n, *target)
    out = F.interpolate(out, size=new_target, mode='bilinear', align_corners=False)
    return out.reshape(*batch, new_n, new_p)


def tokens_to_map(tokens: Tensor, grid: Grid) -> Tensor:
    """View tokens of a grid, (..., h w, C), as a map, (..., C, h, w)."""
    # The exporters of torch.jit take the batch of what is unflattened for a fixed number.
    return tokens.transpose(-2, -1).reshape(*tokens.shape[:-2], tokens.shape[-1], *grid)


def map_to_tokens(x: Tensor) -> Tensor:
    """A map, (..., C, h, w), as tokens, (..., h w, C); a view if its channels come last in memory."""
    return x.flatten(-2).transpose(-2, -1)
