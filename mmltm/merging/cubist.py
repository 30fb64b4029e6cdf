"""CubistMerge: Gong and Lis, "CubistMerge: Spatial-Preserving Token Merging For Diverse ViT Backbones", 2025, arXiv
2509.21764.

The same number of tokens leaves every row of the grid, then the same number leaves every column, so that a smaller grid
is left. Tokens merge with neighbours in their row or column alone, the most similar ones, and keep their order. In each
channel a merged token takes the value of the largest magnitude among the tokens that it stands for.

Departures: this is written from the paper's abstract and its authors' description of their tool, which say neither what
is compared nor which of the neighbours may merge together. Here tokens themselves are compared, by cosine, and the most
similar pairs of a line merge, so that a run of similar tokens becomes one. The grid that is left is that of LTM at the
same ratio; the paper says how many tokens leave a row and a column.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import GridMerger, MergeOperator, merged_size
from .grids import Grid, as_grid


@torch.no_grad()
def neighbour_runs(x: Tensor, count: int) -> Tensor:
    """Into which of ``count`` runs of neighbours each token of a line falls: (B, C, L, N), L lines, to (B, L, N).

    A line is parted between its least similar neighbours.
    """
    x = F.normalize(x.float(), dim=1)
    similarity = (x[..., 1:] * x[..., :-1]).sum(1)
    parted = similarity.argsort(-1)[..., :count - 1]
    return F.pad(torch.zeros_like(similarity, dtype=torch.long).scatter(-1, parted, 1).cumsum(-1), (1, 0))


def largest_magnitudes(x: Tensor, groups: Tensor, count: int) -> Tensor:
    """In every channel the value of the largest magnitude in each of ``count`` groups: (B, C, N) to (B, C, count).

    ``groups``, (B, N), says which one each token is in; none may be empty.
    """
    # The first token of each group is taken, and the others alone are compared: most groups have none, and it is slow.
    cells = torch.arange(x.shape[2], device=x.device).expand_as(groups)
    first = cells[:, :count].scatter_reduce(1, groups, cells, 'amin', include_self=False)
    others = torch.ones_like(cells).scatter(1, first, 0).argsort(descending=True)[:, :x.shape[2] - count]
    indices = first, others, groups.gather(1, others)
    first, others, into = (index[:, None].expand(-1, x.shape[1], -1) for index in indices)
    taken, compared = x.gather(2, first), x.gather(2, others)
    highest, lowest = (taken.scatter_reduce(2, into, compared, reduce) for reduce in ('amax', 'amin'))
    return torch.where(highest >= -lowest, highest, lowest)


class CubistOperator(MergeOperator):
    """Merging of maps, (B, ..., C, H, W), by the merged token that each token goes to, and the way back by copies.

    ``places``, (B', H W), count merged tokens row by row; they are those of an image for B / B' neighbouring maps.
    """

    def __init__(self, places: Tensor, grid: Grid, merged_grid: Grid) -> None:
        self.places, self.grid, self.merged_grid = places, grid, merged_grid

    def _places_for(self, maps: Tensor) -> Tensor:
        return self.places.repeat_interleave(maps.shape[0] // self.places.shape[0], 0)

    def merge(self, x: Tensor) -> Tensor:
        """The largest magnitudes of merged tokens: (B, ..., C, H, W) to (B, ..., C, H', W'). This is not linear."""
        maps, (height, width) = x.flatten(0, -4).flatten(2), self.merged_grid
        merged = largest_magnitudes(maps, self._places_for(maps), height * width)
        return merged.reshape(*x.shape[:-2], height, width)

    def unmerge(self, y: Tensor) -> Tensor:
        """Copies of the merged tokens at all places that they stand for: (B, ..., C, H', W') to (B, ..., C, H, W)."""
        maps = y.flatten(0, -4).flatten(2)
        copies = maps.gather(2, self._places_for(maps)[:, None].expand(-1, maps.shape[1], -1))
        return copies.reshape(*y.shape[:-2], *self.grid)


class CubistMerge(GridMerger):
    """Merges similar neighbours in the rows, then in the columns, of the map of one block. It has nothing to learn.

    The arguments are those of :class:`~mmltm.merging.base.GridMerger`, whose windows say how many rows and columns are
    left; the merging itself knows no windows.
    """

    def operator(self, x: Tensor) -> CubistOperator:
        x = x.detach().flatten(1, -3)
        grid = as_grid(x.shape[-2:])
        height, width = merged = merged_size(grid, *self.windows(grid))
        cols = neighbour_runs(x, width)
        lines = cols + width * torch.arange(grid[0], device=x.device)[:, None]
        narrow = largest_magnitudes(x.flatten(2), lines.flatten(1), grid[0] * width).unflatten(2, (grid[0], width))
        rows = neighbour_runs(narrow.transpose(2, 3), height).transpose(1, 2)
        return CubistOperator((rows.gather(2, cols) * width + cols).flatten(1), grid, merged)
