"""What a mask is before it has learnt anything: which entries are on, and how they weigh."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mmltm.ib.constants import constant_result

from .grids import Grid, local_gap, local_overlap
from .partition import local_partition

#: Overlaps below this are rounding errors.
TOUCH = 1e-9
#: What a cell next to the ones that are on weighs.
FLOOR = 0.05


class Prior(NamedTuple):
    """What a mask is before it has learnt anything, from the grids before and after the merge and before the first.

    Entries of ``weights``, (N, P), above 0 are on; ``flat`` weighs all entries alike.
    """
    weights: Callable[[Grid, Grid, Grid], Tensor]
    flat: bool = False

    def logits(self, source: Grid, target: Grid, base: Grid) -> Tensor:
        """Initial mask logits, (N, P): 1 where an entry is on, -2 elsewhere, so that learning can still flip it."""
        return torch.where(self.weights(source, target, base) > TOUCH, 1., -2.).float()

    def scores(self, source: Grid, target: Grid, base: Grid) -> Tensor:
        """The pre-softmax mask before any step, (N, P): logarithms of the weights, or zeros."""
        if self.flat:
            return torch.zeros(math.prod(source), math.prod(target))
        weights = self.weights(source, target, base)
        # In place of zeros what falls by half with every cell of distance: a cell that the mask adds enters gently.
        return torch.where(weights > TOUCH, weights, FLOOR * 0.5 ** local_gap(source, target)).log().float()


def area_weights(source: Grid, target: Grid, base: Grid) -> Tensor:
    """Overlap of source and target cells, (N, P), whatever was merged before: softmax of its logarithm averages."""
    return local_overlap(source, target)


#: Local averaging; groups of neighbours, each token in one; the binary mask alone, as the paper's first block has it.
PRIORS = {'area': Prior(area_weights), 'partition': Prior(local_partition), 'uniform': Prior(area_weights, flat=True)}


@constant_result
def prior_matrix(name: str, kind: Literal['logits', 'scores'], source: Grid, target: Grid, base: Grid) -> Tensor:
    """Logits or scores of a prior, see :class:`Prior`; a constant to compilers, which could not trace its making."""
    return getattr(PRIORS[name], kind)(source, target, base)
