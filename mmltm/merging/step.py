"""The information-bottleneck step of a mask, for every window by itself (paper, section 3.2 and Algorithm 1).

A window of an image is a sample of its own: Z (N, d) are its tokens in the space of the statistics, V (P, d) the
direction in which its merged tokens lower their bound (:mod:`mmltm.ib`). The pre-softmax mask A of Eq. 3 becomes

    A(l) = R(A(l-1)) + 2 eta beta f(Z) V^T,    f(Z) = Z + Z W,

R resamples from the windows of the block before to those of this one, W and eta are learnt (:class:`~.ltm.LTM`). All
matrices here are transposed, (P, N), because the softmax of Eq. 4 runs over the N sources of each merged token.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .grids import Grid, as_grid, map_to_tokens, resample_mask, tokens_to_map
from .windowed import Region, WindowedMerge

STEP_NORMS = ('rms', 'none')
#: Gradients of a root mean square below this, in nats, are rounding errors and not scaled up to a whole step.
NOISE = 1e-6

#: Grids of a tile before and after merging, and how many of its kind a map has.
Kind = tuple[Grid, Grid, int]


def kind_of(region: Region) -> Kind:
    """Grids of a region's tiles, and their number."""
    rows, cols = region.rows, region.cols
    return (rows.size, cols.size), (rows.merged, cols.merged), rows.repeat * cols.repeat


class WindowSteps(NamedTuple):
    """Sums of the steps that the masks of an image's windows have taken, (B, T, P, N) for each kind of T tiles."""
    tiles: tuple[Tensor, ...]
    kinds: tuple[Kind, ...]

    def resampled(self, kinds: Sequence[Kind]) -> list[Tensor]:
        """The sums on the tiles of the next block, (B, T or 1, P, N) each, their own if it has the same windows.

        Where it has others, because a new stage has begun, all of them go on from the mean over the image's windows.
        """
        if [count for *_, count in kinds] == [count for *_, count in self.kinds]:
            pairs = list(zip(self.tiles, self.kinds))
        else:
            tile, kind = max(zip(self.tiles, self.kinds), key=lambda pair: pair[1][2])
            pairs = [(tile.mean(1, keepdim=True), kind)] * len(kinds)
        return [resample_mask(tile, target, source, new_target, new_source)
                for (tile, (source, target, _)), (new_source, new_target, _) in zip(pairs, kinds)]


def window_steps(tiles: Sequence[Tensor], directions: Sequence[Tensor], gain: Tensor, weight: Tensor | None,
                 norm: str) -> list[Tensor]:
    """The step of every window, gain f(Z) V^T, transposed: V f(Z)^T = (V + V W^T) Z^T.

    Only gain and weight carry a gradient; that of the norm that scales a step would be NaN at zero.

    Args:
        tiles (Sequence[Tensor]): Z, (B, T, N, d) for each kind of tile.
        directions (Sequence[Tensor]): V, (B, T, P, d).
        gain (Tensor): Scalar, eta.
        weight (Tensor, optional): W, (d, d), or that of a share of the channels that all shares have; None: f(Z) = Z.
        norm (str): 'rms' scales every step to unit root mean square before the gain, after what the entries of a column
            have in common, which does not pass the softmax, has been taken off; 'none' leaves it.

    Returns:
        list[Tensor]: (B, T, P, N) each.
    """
    steps = []
    for tokens, direction in zip(tiles, directions):
        if weight is not None:
            direction = direction + (direction.unflatten(-1, (-1, len(weight))) @ weight.transpose(-2, -1)).flatten(-2)
        if norm == 'none':
            steps.append((gain * direction) @ tokens.transpose(-2, -1))
            continue
        step = direction @ (tokens - tokens.mean(-2, keepdim=True)).transpose(-2, -1)
        rms = torch.linalg.vector_norm(step.detach(), dim=(-2, -1), keepdim=True) / math.prod(step.shape[-2:])**0.5
        steps.append(step * (gain / rms.clamp_min(NOISE)))
    return steps


def project_map(x: Tensor, matrix: Tensor) -> Tensor:
    """Project the tokens of a map by a (D, d) matrix, (B, H, W, d), without moving the map about in memory.

    The map is (B, D, H, W), or (B, A, C, H, W), D = A C, whose tokens have the channels of all A groups.
    """
    size, x = as_grid(x.shape[-2:]), x.to(matrix.dtype)
    if x.dim() == 5:
        tokens = (map_to_tokens(x) @ matrix.view(*x.shape[1:3], -1)).sum(1)
    elif x.stride(-3) == 1:
        tokens = map_to_tokens(x) @ matrix
    else:
        tokens = (matrix.transpose(-2, -1) @ x.flatten(2)).transpose(-2, -1)
    return tokens.reshape(tokens.shape[0], *size, tokens.shape[-1])


def resize_tokens(tokens: Tensor, grid: Grid, size: Grid) -> Tensor:
    """Tokens of one grid, (B, T, h w, d), resampled bilinearly to another one, (B, T, h' w', d)."""
    if grid == size:
        return tokens
    maps = F.interpolate(tokens_to_map(tokens.flatten(0, 1), grid), size=size, mode='bilinear', align_corners=False)
    return map_to_tokens(maps).reshape(*tokens.shape[:2], -1, tokens.shape[-1])


def join_windows(tiles: Sequence[Tensor], grids: Sequence[Grid], size: Grid) -> Tensor:
    """Tokens of tiles of all kinds as samples of one size, (B T, h w, d); smaller tiles are resampled to it."""
    windows = [resize_tokens(tile, grid, size) for tile, grid in zip(tiles, grids)]
    return (windows[0] if len(windows) == 1 else torch.cat(windows, 1)).flatten(0, 1)


def split_windows(windows: Tensor, operator: WindowedMerge, batch: int, size: Grid) -> list[Tensor]:
    """The way back from :func:`join_windows` for merged tokens: (B T, P, d) to (B, T, p, d) for each kind of tile."""
    kinds = [kind_of(region) for region in operator.regions]
    parts = windows.reshape(batch, -1, *windows.shape[1:]).split([count for *_, count in kinds], 1)
    return [resize_tokens(part, size, target) for part, (_, target, _) in zip(parts, kinds)]
