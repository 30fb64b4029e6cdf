"""Consecutive merges as one linear map, and its rows and columns: which source goes where.

Notation of the LTM paper, section 3: G_l (N_l, P_l) are the masks of consecutive blocks, so G = G_1 G_2 ... G_l,
(N, P), leads from the full grid of a stage to the tokens that block l leaves of it. G is never made; its columns and
rows come out of the operators themselves, whatever they are made of.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmltm.merging.grids import Grid

#: Numbers in the maps that are merged at once in search of groups; bounds the memory.
CHUNK = 2**24


class Composition:
    """What consecutive merges of one forward pass of B images (``batch``) do together.

    The operators are in the order of the blocks, and compute on ``device``. Each has ``grid``, ``merged_grid`` and
    ``merge``, which takes (B, C, H, W) to (B, C, H', W'), channel by channel.
    """

    def __init__(self, operators: Sequence[Any], batch: int = 1, device='cpu') -> None:
        self.operators: tuple[Any, ...] = tuple(operators)
        self.batch, self.device = batch, device
        #: Height and width of the full grid, N cells, and after the last merge, P cells.
        self.grid: Grid = tuple(self.operators[0].grid)
        self.merged_grid: Grid = tuple(self.operators[-1].merged_grid)

    def then(self, operator: Any) -> 'Composition':
        """This composition, followed by one more merge."""
        return Composition((*self.operators, operator), self.batch, self.device)

    def merge(self, x: Tensor) -> Tensor:
        """G^T x: (B, C, H, W) to (B, C, H', W')."""
        for operator in self.operators:
            x = operator.merge(x)
        return x

    def weights(self, token: int, image: int = 0) -> Tensor:
        """Column ``token`` of G: how much each cell of the full grid contributes to a merged token.

        It is e_p pulled back through the transposes, G_1 G_2 ... G_l e_p, for p in row-major order of the merged grid:
        (H, W), float32, on the CPU. Of an operator that is not linear it is the derivative at a constant map.
        """
        with torch.enable_grad():
            x = torch.ones(self.batch, 1, *self.grid, device=self.device, requires_grad=True)
            merged = self.merge(x)[image].flatten()[token]
            weights, = torch.autograd.grad(merged, x)
        return weights[image, 0].cpu()

    def groups(self, image: int = 0) -> Tensor:
        """The merged token that takes most of each cell, the largest entry of each row of G; -1 where none does.

        (H, W), int64, on the CPU. It takes N P multiplications: slow for maps of more than ten thousand cells.
        """
        count = self.grid[0] * self.grid[1]
        step = max(1, CHUNK // (self.batch * count))
        cells = torch.arange(count, device=self.device)
        return torch.cat([self._largest(part, image) for part in cells.split(step)]).view(self.grid).cpu()

    def token_at(self, cell: tuple[int, int], image: int = 0) -> int:
        """The merged token that takes most of one cell, (row, column), of the full grid; -1 if none does."""
        index = torch.tensor([cell[0] * self.grid[1] + cell[1]], device=self.device)
        return int(self._largest(index, image))

    @torch.no_grad()
    def _largest(self, cells: Tensor, image: int) -> Tensor:
        """Merged token with the largest weight of each of ``cells``, (k,), by merging one map for each."""
        x = torch.zeros(self.batch, len(cells), self.grid[0] * self.grid[1], device=self.device)
        x.scatter_(2, cells.expand(self.batch, -1)[..., None], 1.0)
        rows = self.merge(x.unflatten(2, self.grid))[image].flatten(1)
        weights, tokens = rows.max(1)
        return torch.where(weights > 0, tokens, -1)
