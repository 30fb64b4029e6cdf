"""Geometry of token grids: how far a grid shrinks, which source cells a target cell covers.

A mask G belongs to a base window of ``source = (h, w)`` cells, N = h w, which it merges into
``target = (h', w')`` cells, P = h' w'. Masks are written (N, P), rows and columns in row-major order of their
grids. Everything here is pure geometry: nothing is learnt.
"""

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Grid = tuple[int, int]

ROUNDINGS = ('nearest', 'area', 'ceil')


def check_ratios(ratio: float | Sequence[float], depth: int) -> list[float]:
    """One kept share a block, from one number for all blocks or a list of ``depth`` numbers.

    Raises:
        ValueError: If a ratio is outside (0, 1], or the list has another length than ``depth``.
    """
    ratios = list(ratio) if isinstance(ratio, (list, tuple)) else [ratio] * depth
    if len(ratios) != depth:
        raise ValueError(f'ratio has {len(ratios)} values for {depth} merging blocks; give one number or {depth}')
    for value in ratios:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
            raise ValueError(f'ratio must be in (0, 1], the share of tokens that is kept; got {value!r}')
    return [float(value) for value in ratios]


def shrink_grid(grid: Grid, ratio: float, rounding: str = 'nearest') -> Grid:
    """The grid that keeps about ``ratio`` of the cells of ``grid``, both sides scaled by sqrt(ratio).

    Args:
        grid (tuple): Height and width.
        ratio (float): Share of cells to keep, in (0, 1].
        rounding (str): 'nearest' rounds each side to the nearest integer; 'area' picks, of the grids next to
            the exact one, that with the nearest number of cells, so it need not be square; 'ceil' rounds up
            (the paper's form, which stalls on small grids). Defaults to 'nearest'.
    """
    if rounding not in ROUNDINGS:
        raise ValueError(f'rounding must be one of {ROUNDINGS}, got {rounding!r}')
    # The tolerance keeps 7 * sqrt(1.0) from becoming 8 under ceil.
    sides = [max(1.0, side * math.sqrt(ratio)) for side in grid]
    if rounding == 'ceil':
        return tuple(math.ceil(side - 1e-9) for side in sides)
    if rounding == 'nearest':
        return tuple(math.floor(side + 0.5) for side in sides)
    wanted = ratio * grid[0] * grid[1]
    candidates = product(*({math.floor(side), math.ceil(side - 1e-9)} for side in sides))
    return min(candidates, key=lambda g: (abs(g[0] * g[1] - wanted), abs(g[0] - g[1]), g))


def window_schedule(window: Grid, ratios: Sequence[float], rounding: str = 'nearest') -> list[Grid]:
    """Grids of a window before and after each of ``len(ratios)`` consecutive merges.

    Every grid is rounded from the exact product of the ratios so far, so rounding errors do not add up
    ('ceil' rounds the grid at hand instead, as the paper does).

    Returns:
        list[tuple]: ``len(ratios) + 1`` grids, never growing, the first of them ``window``.
    """
    grids, kept = [tuple(window)], 1.0
    for ratio in ratios:
        kept *= ratio
        if rounding == 'ceil':
            grid = shrink_grid(grids[-1], ratio, rounding)
        else:
            grid = shrink_grid(grids[0], kept, rounding)
        grids.append(tuple(min(new, old) for new, old in zip(grid, grids[-1])))
    return grids


def separate_schedule(window: Grid, ratios: Sequence[float], rounding: str = 'area') -> list[Grid]:
    """Grids that ``len(ratios)`` merges, each of the whole window, leave of it.

    With 'area' what rounding took or left is made good by the next merges, so that the mean kept share is the ratios'
    mean: 7 x 7 at 0.7 becomes now 6 x 6 and now 6 x 5.
    """
    grids, tokens, owed = [], window[0] * window[1], 0.0
    for ratio in ratios:
        if rounding != 'area' or ratio == 1:
            grids.append(shrink_grid(window, ratio, rounding))
            continue
        owed += ratio * tokens
        grids.append(shrink_grid(window, min(1.0, max(0.0, owed / tokens)), rounding))
        owed -= grids[-1][0] * grids[-1][1]
    return grids


def share_for_mean(window: Grid, mean: float, depth: int, rounding: str = 'area') -> float:
    """Share of its own tokens that each block must keep for the mean kept share over all blocks to be ``mean``.

    Args:
        window (tuple): Height and width of the first block's window.
        mean (float): Wanted mean, over the blocks, of the share of the window that :func:`window_schedule` leaves.
        depth (int): Number of blocks; the last of them merges nothing.
        rounding (str): See :func:`shrink_grid`. Defaults to 'area'.

    Returns:
        float: The share for which the mean of the rounded grids comes nearest to ``mean``.
    """

    def error(share: float) -> float:
        grids = window_schedule(window, [share] * (depth - 1) + [1.0], rounding)[1:]
        return sum(h * w for h, w in grids) / (depth * window[0] * window[1]) - mean

    low, high = 1e-6, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        if error(middle) < 0:
            low = middle
        else:
            high = middle
    return min(high, low, key=lambda share: abs(error(share)))


class AxisTile(NamedTuple):
    """``count`` neighbouring tiles of ``size`` cells on one axis, each of which becomes ``merged`` cells."""
    start: int
    size: int
    count: int
    merged: int


def tile_axis(length: int, source: int, target: int) -> list[AxisTile]:
    """Cut an axis into windows of ``source`` cells, from its origin, and what remains at its end.

    No cell is padded, and a longer axis leaves the windows before its end as they were. The remainder is a smaller
    window of its own and shrinks at least as much as a whole one, lest large maps with a remainder keep a larger share
    than those without. A remainder too short for that joins the window before it; such a window, and an axis shorter
    than a window, become the nearest number of cells.
    """
    count, rest = divmod(length, source)
    if not rest:
        return [AxisTile(0, source, count, target)]
    if count and rest * target >= source:
        return [AxisTile(0, source, count, target), AxisTile(count * source, rest, 1, rest * target // source)]
    tiles = [AxisTile(0, source, count - 1, target)] if count > 1 else []
    size = rest + (source if count else 0)
    return tiles + [AxisTile(length - size, size, 1, max(1, math.floor(size * target / source + 0.5)))]


def axis_overlap(source: int, target: int) -> Tensor:
    """Share of each source cell that lies in each of ``target`` equal intervals, (source, target).

    Rows sum to 1, columns to source / target.
    """
    edges = torch.arange(target + 1, dtype=torch.float64) * source / target
    cells = torch.arange(source, dtype=torch.float64)[:, None]
    upper = torch.minimum(cells + 1, edges[None, 1:])
    return (upper - torch.maximum(cells, edges[None, :-1])).clamp(min=0)


def local_overlap(source: Grid, target: Grid) -> Tensor:
    """Share of each source cell that lies in each target cell, (N, P): local averaging before normalisation."""
    return torch.kron(axis_overlap(source[0], target[0]), axis_overlap(source[1], target[1]))


def axis_gap(source: int, target: int) -> Tensor:
    """Distance, in source cells, from each source cell to each target interval, 0 inside, (source, target)."""
    edges = torch.arange(target + 1, dtype=torch.float64) * source / target
    cells = torch.arange(source, dtype=torch.float64)[:, None]
    before = edges[None, :-1] - (cells + 1)
    after = cells - edges[None, 1:]
    return torch.maximum(before, after).clamp(min=0)


def local_gap(source: Grid, target: Grid) -> Tensor:
    """Distance (sum over both axes, in source cells) from each source to each target cell, (N, P)."""
    rows, cols = axis_gap(source[0], target[0]), axis_gap(source[1], target[1])
    return (rows[:, None, :, None] + cols[None, :, None, :]).reshape(
        source[0] * source[1], target[0] * target[1])


def resample_mask(mask: Tensor, source: Grid, target: Grid, new_source: Grid, new_target: Grid) -> Tensor:
    """Carry an (N, P) mask to other grids, bilinearly on the source grid and on the target grid.

    Args:
        mask (Tensor): (..., N, P), N = prod(source), P = prod(target).

    Returns:
        Tensor: (..., N', P') with N' = prod(new_source), P' = prod(new_target); ``mask`` itself if no grid changes.
    """
    if (source, target) == (new_source, new_target):
        return mask
    (n, p), (new_n, new_p) = (math.prod(source), math.prod(target)), (math.prod(new_source), math.prod(new_target))
    batch = mask.shape[:-2]
    out = mask.reshape(-1, n, p).mT.reshape(-1, p, *source)
    out = F.interpolate(out, size=new_source, mode='bilinear', align_corners=False)
    out = out.reshape(-1, p, new_n).mT.reshape(-1, new_n, *target)
    out = F.interpolate(out, size=new_target, mode='bilinear', align_corners=False)
    return out.reshape(*batch, new_n, new_p)


def tokens_to_map(tokens: Tensor, grid: Grid) -> Tensor:
    """View tokens of a grid, (..., h w, C), as a map, (..., C, h, w)."""
    return tokens.unflatten(-2, grid).movedim(-1, -3)


def map_to_tokens(x: Tensor) -> Tensor:
    """A map, (..., C, h, w), as tokens, (..., h w, C); a view if its channels come last in memory."""
    return x.movedim(-3, -1).flatten(-3, -2)
