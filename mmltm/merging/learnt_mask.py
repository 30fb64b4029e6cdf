"""A mask that learns by the loss alone, the same for all images: logits, their prior, and what they make of a window.

A mask belongs to a base window (``source``) and serves maps of any size window by window, in place of the paper's one
N x P mask for one input size. What its logits have learnt away from their start is resampled to smaller windows at
the edges of a map; the start itself is known exactly at every size.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from mmltm.ib.constants import exporting
from mmltm.ib.precision import at_least_float32, autocast_off

from .base import GridMerger
from .grids import Grid, resample_mask
from .masks import gumbel_sigmoid, keep_largest, least_squares_inverse, normalize_mask
from .priors import PRIORS, prior_matrix
from .windowed import WindowedMerge


class LearntMask(GridMerger):
    """Merges the tokens of one block by a learnt mask (paper, section 3.1, Eqs. 3 and 4, without the step).

    Args:
        prior (str): Mask before it has learnt: 'area' averages the area that a token takes the place of, 'partition'
            groups neighbouring tokens, each in one group (:mod:`.partition`), 'uniform' weighs all entries alike, as
            the paper does. Defaults to 'area'.
        temperature (float): Of the Gumbel-sigmoid that samples the binary mask in training. Defaults to 1.0.
        *args, **kwargs: See :class:`~mmltm.merging.base.GridMerger`.

    Attributes:
        logits (Tensor): (N, P) mask logits.
        active (bool): Whether to merge; saved in checkpoints.
    """
    merging: Tensor

    def __init__(self, *args, prior: str = 'area', temperature: float = 1.0, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if prior not in PRIORS:
            raise ValueError(f'prior must be one of {tuple(PRIORS)}, got {prior!r}')
        if temperature <= 0:
            raise ValueError(f'temperature must be positive, got {temperature}')
        self.temperature, self.prior = temperature, prior
        self.logits = nn.Parameter(PRIORS[prior].logits(self.source, self.target, self.base))
        self.register_buffer('merging', torch.ones((), dtype=torch.bool))
        self._active = True

    @property
    def active(self) -> bool:
        return self._active

    @active.setter
    def active(self, value: bool) -> None:
        # The buffer travels with checkpoints; the flag spares the host waiting for the device at every forward pass.
        self._active = value
        self.merging.fill_(value)

    def operator(self, x: Tensor) -> WindowedMerge:
        if self.is_constant:
            return self.constant_operator(x, self.matrices, ('logits', ))
        with autocast_off(x):
            return self.windowed(x, self.matrices)

    def matrices(self, source: Grid, target: Grid, steps: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """G and U of a tile, each (N, P), float32; ``steps``, (N, P), add to the base window's pre-softmax mask."""
        mask = self.mask(source, target, steps, sample=self.training)
        return mask, least_squares_inverse(mask)

    def mask(self, source: Grid, target: Grid, steps: Tensor | None = None, sample: bool = False) -> Tensor:
        """G of a tile, its support sampled or, as in evaluation, by sign."""
        scores = self.scores(source, target)
        if steps is not None:
            scores = scores + self.resampled(steps, source, target)
        return normalize_mask(self.support(source, target, sample), scores)

    def support(self, source: Grid, target: Grid, sample: bool = False) -> Tensor:
        """The binary mask of a tile, (N, P): sampled, with a gradient, or by the sign of the logits."""
        logits = self.learnt(source, target) + self.constant('logits', source, target)
        support = gumbel_sigmoid(logits, self.temperature) if sample else (logits > 0).to(logits)
        return keep_largest(support, logits)

    def scores(self, source: Grid, target: Grid) -> Tensor:
        """The pre-softmax mask of a tile before any step, (N, P)."""
        return self.constant('scores', source, target)

    def learnt(self, source: Grid, target: Grid) -> Tensor:
        """What the logits have learnt, on a tile, (N, P)."""
        learnt = at_least_float32(self.logits) - self.constant('logits', self.source, self.target)
        return self.resampled(learnt, source, target)

    def resampled(self, mask: Tensor, source: Grid, target: Grid) -> Tensor:
        """An (..., N, P) matrix of the base window on the grids of a tile."""
        return resample_mask(mask, self.source, self.target, source, target)

    def constant(self, kind: Literal['logits', 'scores'], source: Grid, target: Grid) -> Tensor:
        """Logits or scores of the prior for a tile, on the device of the logits and in their precision."""
        # What is left beside whole windows has a history of its own, which no merge but its own knows.
        base = self.base if (source, target) == (self.source, self.target) else source
        return self.kept((kind, source, target), lambda: prior_matrix(self.prior, kind, source, target, base).to(
            at_least_float32(self.logits)))

    @property
    def is_constant(self) -> bool:
        """Whether the mask depends on nothing but parameters and buffers, in evaluation as a rule."""
        return not self.training and (
            exporting() or not (torch.is_grad_enabled() and self.logits.requires_grad))

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self._active = bool(self.merging)

    def extra_repr(self) -> str:
        return f'{super().extra_repr()}, ratio={math.prod(self.target) / math.prod(self.source):.3f}'
