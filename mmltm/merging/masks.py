"""Binary masks that learn, and what a mask is before it has learnt anything."""

import torch
from torch import Tensor

from .grids import Grid, local_gap, local_overlap


def gumbel_sigmoid(logits: Tensor, temperature: float = 1.0, noise: bool = True) -> Tensor:
    """Binary sample with straight-through gradient: P(1) = sigmoid(logits), whatever the temperature.

    Args:
        logits (Tensor): Any shape.
        temperature (float): Of the sigmoid whose gradient stands in for the step's. Defaults to 1.0.
        noise (bool): False: no sample, but 1 where a logit is positive. Defaults to True.
    """
    if noise:
        uniform = torch.rand_like(logits).clamp(torch.finfo(logits.dtype).tiny, 1 - torch.finfo(logits.dtype).eps)
        logits = logits + uniform.log() - (-uniform).log1p()
    soft = (logits / temperature).sigmoid()
    # In this order the value is exactly 0 or 1.
    return (soft > 0.5).to(soft) + (soft - soft.detach())


def keep_largest(support: Tensor, logits: Tensor) -> Tensor:
    """Set the entry of the largest logit of each column, so that no column is empty; gradients pass unchanged."""
    largest = torch.zeros_like(support).scatter_(-2, logits.argmax(-2, keepdim=True), 1.0)
    return support + largest * (1 - support.detach())


def local_logits(source: Grid, target: Grid, inside: float = 1.0, outside: float = -2.0) -> Tensor:
    """Initial mask logits, (N, P): ``inside`` where a source and a target cell overlap, ``outside`` elsewhere.

    Both are near zero, so that learning can still flip an entry.
    """
    return torch.where(local_overlap(source, target) > 1e-9, inside, outside).float()


def area_scores(source: Grid, target: Grid, floor: float = 0.05) -> Tensor:
    """Logarithm of the overlap of source and target cells, (N, P).

    Its softmax over all overlapping cells is local averaging. Off the overlap it falls by half with every cell of
    distance, from ``floor`` on, so that a cell which the mask adds enters gently.
    """
    overlap = local_overlap(source, target)
    away = floor * 0.5 ** local_gap(source, target)
    return torch.where(overlap > 1e-9, overlap, away).log().float()


def uniform_scores(source: Grid, target: Grid) -> Tensor:
    """Zeros, (N, P): the mask is its binary support alone, as the paper's first block has it."""
    return torch.zeros(source[0] * source[1], target[0] * target[1])


#: Pre-softmax masks before any information-bottleneck step.
PRIORS = {'area': area_scores, 'uniform': uniform_scores}
