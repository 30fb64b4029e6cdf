"""Soft token merging: Yuan et al., "Efficient Transformer Adaptation with Soft Token Merging", CVPR Workshops 2024.

Within a window of p neighbouring tokens X (p, d), with d' = d / 2:

    S = softmax(X W_Q (X W_K)^T / sqrt(d')),    s = mean of the rows of S,    x~ = 1/p sum_j s_j x_j,

and on the way back, "inflation", every token takes its own share of what became of the merged one: y^ = X + y' s,
where no gradient passes s.

Departures: the paper merges sequences; here a window is p neighbouring cells of the grid, side by side for p = 2, a
square for p = 4. What does not fill a window at the edges of a map is a smaller window, with its own p. The paper's
scores sum to 1 over a window and are divided by p once more, so merged tokens are short; that is kept.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from .base import GridMerger, Host, MergeOperator, Plan
from .grids import Grid, as_grid, map_to_tokens

#: Cells of a window, by p.
WINDOWS = {2: (1, 2), 4: (2, 2)}


class SoftMerge(MergeOperator):
    """Merging of maps, (B, ..., C, H, W), by scores, and the way back; a window of so many cells becomes one.

    Scores are (B', 1, H, W), those of an image for B / B' neighbouring maps.
    """

    def __init__(self, scores: Tensor, window: Grid) -> None:
        self.scores, self.window = scores, window
        self.grid: Grid = as_grid(scores.shape[-2:])
        self.merged_grid: Grid = tuple(-(-side // cells) for side, cells in zip(self.grid, window))

    def _scores_for(self, maps: Tensor) -> Tensor:
        return self.scores.repeat_interleave(maps.shape[0] // self.scores.shape[0], 0).to(maps.dtype)

    def merge(self, x: Tensor) -> Tensor:
        """Means of the weighted tokens of every window: (B, ..., C, H, W) to (B, ..., C, H', W')."""
        maps = x.flatten(0, -4)
        merged = F.avg_pool2d(maps * self._scores_for(maps), self.window, ceil_mode=True)
        return merged.unflatten(0, x.shape[:-3])

    def unmerge(self, y: Tensor) -> Tensor:
        """Every token's share of the merged one: (B, ..., C, H', W') to (B, ..., C, H, W)."""
        maps = y.flatten(0, -4)
        for dim, cells in zip((-2, -1), self.window):
            maps = maps.repeat_interleave(cells, dim)
        maps = maps[..., :self.grid[0], :self.grid[1]] * self._scores_for(maps).detach()
        return maps.unflatten(0, y.shape[:-3])

    def restore(self, full: Tensor, merged: Tensor, update: Tensor) -> Tensor:
        """Inflation, y^ = X + y' s, of X (B, ..., C, H, W) by what became of the merged tokens."""
        return full + self.unmerge(update)


class SoftMerging(GridMerger):
    """Merges the tokens of one block by scores that they give each other.

    Configs say ``p``, 2 or 4, the number of neighbouring cells that become one, and may say ``position``, which blocks
    merge, counted over all stages; by default the first of every stage if a block merges what the block before has left
    over, else all. The window of :class:`~mmltm.merging.base.GridMerger` is (1, 2) or (2, 2) and becomes (1, 1);
    ``query`` and ``key`` are W_Q and W_K, from d to d / 2 channels.
    """
    amounts = ('p', )
    default_amount = dict(p=2)
    ratio_per_block = False
    has_windows = False
    presets = {'paper': {}}
    random_init = True

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.query, self.key = (nn.Linear(self.embed_dims, self.embed_dims // 2, bias=False) for _ in range(2))

    @classmethod
    def plan(cls, config: dict, host: Host) -> Plan:
        config = dict(config)
        count, p, positions = sum(host.depths), config.pop('p'), config.pop('position', None)
        if p not in WINDOWS:
            raise ValueError(f'p must be one of {tuple(WINDOWS)}, the tokens that become one, got {p!r}')
        if positions is None:
            starts = [sum(host.depths[:stage]) for stage, depth in enumerate(host.depths) if depth]
            positions = starts if host.progressive else range(count)
        positions = [positions] if isinstance(positions, int) else list(positions)
        for position in positions:
            if not 0 <= position < count:
                raise ValueError(f'position must be in [0, {count - 1}], the blocks that can merge, got {position}')
        channels = [channels for channels, depth in zip(host.embed_dims, host.depths) for _ in range(depth)]
        return host.by_stage([
            dict(config, source=WINDOWS[p], target=(1, 1), embed_dims=channels[index]) if index in positions else None
            for index in range(count)])

    def operator(self, x: Tensor) -> SoftMerge:
        x = x.flatten(1, -3)
        tokens = map_to_tokens(x)
        queries, keys = (self._windows(layer(tokens), x.shape[-2:]) for layer in (self.query, self.key))
        inside = self._windows(x.new_ones(1, x[0, 0].numel(), 1), x.shape[-2:])[..., 0]
        logits = queries @ keys.transpose(-2, -1) / math.sqrt(queries.shape[-1])
        weights = logits.masked_fill(inside[..., None, :] == 0, float('-inf')).softmax(-1)
        scores = (weights * inside[..., None]).sum(-2) / inside.sum(-1, keepdim=True)
        scores = scores.unflatten(3, self.source).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return SoftMerge(scores[:, None, :x.shape[-2], :x.shape[-1]], self.source)

    def _windows(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Tokens of a grid, (B, H W, C), cut into windows, (B, H', W', p, C), at the edges with zeros."""
        (height, width), (h, w) = grid, self.source
        x = F.pad(tokens.unflatten(1, grid), (0, 0, 0, -width % w, 0, -height % h))
        x = x.unflatten(2, (-1, w)).unflatten(1, (-1, h))
        return x.transpose(2, 3).flatten(3, 4)

    def extra_repr(self) -> str:
        return f'window={self.source}'
