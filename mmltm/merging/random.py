"""Merging by a random mask that never changes: the floor for masks that keep the grid but not its layout."""

import math

import torch
from torch import Tensor

from mmltm.ib.constants import constant_result

from .grids import Grid
from .pooling import FixedMask


@constant_result
def random_mask(source: Grid, target: Grid, seed: int) -> Tensor:
    """Means over random groups of cells, (N, P): every cell is in one group, and no group is empty."""
    n, p = math.prod(source), math.prod(target)
    generator = torch.Generator().manual_seed(seed)
    # A CPU generator cannot draw where torch.device('meta') makes the tensors.
    with torch.device('cpu'):
        groups = torch.cat((torch.arange(p), torch.randint(p, (n - p, ), generator=generator)))
        mask = torch.zeros(n, p)
        mask[torch.randperm(n, generator=generator), groups] = 1
    return mask / mask.sum(0)


class Random(FixedMask):
    """Every merged token is the mean of tokens drawn at random out of the window, once and for all.

    Args:
        seed (int, optional): Of the mask. None draws one from torch's generator, so that blocks differ; with a
            number, blocks with equal windows have equal masks. Defaults to None.
        *args, **kwargs: See :class:`FixedMask`.
    """
    random_init = True
    drawn: Tensor  # the mask of the base window, (N, P)
    seed: Tensor  # of the masks of windows at the edges

    def __init__(self, *args, seed: int | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._seed = int(torch.randint(2**31, (), device='cpu')) if seed is None else seed
        self.register_buffer('seed', torch.tensor(self._seed))
        self.register_buffer('drawn', random_mask(self.source, self.target, self._seed))

    def mask(self, source: Grid, target: Grid) -> Tensor:
        if (source, target) == (self.source, self.target):
            return self.drawn
        return random_mask(source, target, self._seed)

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._seed = int(self.seed)
