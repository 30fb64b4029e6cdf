"""What a mask is before it has learnt anything: which entries are on, and how they weigh."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .grids import Grid, local_gap, local_overlap
from .partition import local_partition

#: Overlaps below this are rounding errors.
TOUCH = 1e-9


def area_weights(source: Grid, target: Grid, base: Grid) -> Tensor:
    """Overlap of source and target cells, (N, P), whatever was merged before."""
    return local_overlap(source, target)


def area_scores(source: Grid, target: Grid, base: Grid) -> Tensor:
    """Logarithm of the overlap of source and target cells, (N, P): its softmax on these is local averaging."""
    return _falling_off(local_overlap(source, target), source, target)


def partition_scores(source: Grid, target: Grid, base: Grid) -> Tensor:
    """Zeros where a source cell goes into a target cell, (N, P): a token is the mean of those that are in no other."""
    return _falling_off(local_partition(source, target, base), source, target)


def uniform_scores(source: Grid, target: Grid, base: Grid) -> Tensor:
    """Zeros, (N, P): the mask is its binary support alone, as the paper's first block has it."""
    return torch.zeros(source[0] * source[1], target[0] * target[1])


def _falling_off(weights: Tensor, source: Grid, target: Grid, floor: float = 0.05) -> Tensor:
    """Logarithm of weights, in place of zeros of what falls by half with every cell of distance, from ``floor`` on."""
    # So a cell that the mask adds enters gently.
    away = floor * 0.5 ** local_gap(source, target)
    return torch.where(weights > TOUCH, weights, away).log().float()


class Prior(NamedTuple):
    """What a mask is before it has learnt anything, from the grids before and after the merge and before the first.

    Entries of ``weights``, (N, P), above 0 are on; ``scores``, (N, P), is the pre-softmax mask before any step.
    """
    weights: Callable[[Grid, Grid, Grid], Tensor]
    scores: Callable[[Grid, Grid, Grid], Tensor]

    def logits(self, source: Grid, target: Grid, base: Grid) -> Tensor:
        """Initial mask logits, (N, P): 1 where an entry is on, -2 elsewhere, so that learning can still flip it."""
        return torch.where(self.weights(source, target, base) > TOUCH, 1., -2.).float()


PRIORS = {
    'area': Prior(area_weights, area_scores),
    'partition': Prior(local_partition, partition_scores),
    'uniform': Prior(area_weights, uniform_scores),
}
