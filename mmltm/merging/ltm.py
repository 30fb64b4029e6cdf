"""Learnable token merging: the mask of one block (paper, section 3.1, Eqs. 3 and 4).

Departures from the paper, each selectable:

* A mask belongs to a base window (``source``) and serves maps of any size window by window, in place of one N
  x P mask for one input size. A sample's tokens Z_i, which the information-bottleneck step is about, are then
  the mean of its windows: merging is linear, so G^T Z_i is the mean of the merged windows.
* The pre-softmax mask starts at the logarithm of local averaging (``prior='area'``) rather than at zero
  (``prior='uniform'``, the paper's form, where the first block's mask is its binary mask alone). Measured on
  7 x 7 windows of Imagenette photographs, a merge to 6 x 6 and back then loses 2.6% of the variance in place
  of 4.5%, and the way back amplifies noise 4 times in place of 20 times
  (``tests/merging/test_operators.py``).
* The step is taken on centred, L2-normalised features at beta = 10 and scaled to unit root mean square
  (the paper: beta = 1, raw gradient), because raw steps change nothing or overshoot, depending on the layer.
  What a column's entries have in common is taken off before, since it does not pass the softmax of Eq. 4.
* Each image can move the mask towards its own tokens (``kmeans_steps``, :mod:`.kmeans`), which costs a few products in
  few channels; the paper's masks of evaluation are the same for all images. There is no binary mask then: the
  logits have learnt by how much a token is drawn to a place.
* In evaluation, where there are no labels, a running mean of the training steps takes the step's place
  (``mode='static'``), or each image's own posterior over the classes the place of its label
  (``mode='instance'``).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from mmltm.ib import BatchTargets, BottleneckReport, ClassStatistics

from .grids import Grid, resample_mask
from .kmeans import MAX_AFFINITY, directions, soft_kmeans
from .masks import PRIORS, gumbel_sigmoid, keep_largest
from .operators import INVERSES, WindowedMerge, map_to_tokens, normalize_mask, tokens_to_map
from .precision import autocast_off

MODES = ('static', 'instance')
STEP_NORMS = ('rms', 'none')
#: Gradients of a root mean square below this, in nats, are rounding errors and not scaled up to a whole step.
NOISE = 1e-6


class Carry(NamedTuple):
    """What a block hands to the next.

    The pre-softmax mask A of Eq. 3 is the prior of a block's grids plus the sum of the steps so far.

    Attributes:
        source (tuple): Grid of the block's own mask before merging.
        target (tuple): The same after merging.
        steps (Tensor, optional): Sum of the steps so far on these grids, ([B,] N, P).
        pending (tuple): While merging is off: the mergings that the map would have undergone in this stage.
            The statistics of the next block are about tokens so merged.
    """
    source: Grid
    target: Grid
    steps: Tensor | None
    pending: tuple[WindowedMerge, ...] = ()


class LTM(nn.Module):
    """Merges the tokens of one block by a learnt mask.

    Args:
        source (tuple): Base window (h, w) before merging, N = h w.
        target (tuple): Base window (h', w') after merging, P = h' w'.
        embed_dims (int): Channels D of a token.
        first (bool): First merging block of the network, which takes no information-bottleneck step.
            Defaults to False.
        base (tuple, optional): The window before the first of the merges that this one goes on from, for masks that
            begin as a partition. Defaults to None, ``source``.
        num_classes (int, optional): Classes C of the statistics behind the information-bottleneck step. None:
            no statistics and no step, the mask learns by its logits alone. Defaults to None.
        mode (str): 'static' or 'instance'. Defaults to 'static'.
        eta (float): Size of the step, the paper's eta; 0 keeps the statistics but takes no step. Defaults to
            1.0.
        beta (float): Inverse temperature of the soft class assignment. Defaults to 10.0.
        normalize (bool): L2-normalise features before distances. Defaults to True.
        center (bool): Subtract the mean of the class centroids before that. Defaults to True.
        step_norm (str): 'rms' scales every step to unit root mean square, 'none' leaves it. Defaults to
            'rms'.
        stat_dim (int, optional): Channels left by the projection that bounds the memory of the statistics;
            None is exact. Defaults to 16.
        momentum (float): Of the running mean of the steps. Defaults to 0.1.
        prior (str): Mask before it has learnt: 'area' averages the area that a token takes the place of, 'partition' groups
            of neighbouring tokens, each in one (:mod:`.partition`), 'uniform' weighs all entries alike. Defaults to
            'area'.
        inverse (str): Way back to all tokens: 'lstsq' or 'rownorm'. Defaults to 'lstsq'.
        temperature (float): Of the Gumbel-sigmoid. Defaults to 1.0.
        noise (bool): Sample the binary mask in training, as the paper does; else it is the sign of the logits there,
            too, as in evaluation, with the gradient of their sigmoid. Defaults to True.
        kmeans_steps (int): How often tokens of an image divide themselves anew between the merged tokens, near ones
            rather than far ones, see :mod:`mmltm.merging.kmeans`; 0: the mask is the same for all images. Not in
            the paper. Defaults to 0.
        affinity (float): Factor of the cosine similarity in that, in [0, 40]. Defaults to 20.0.
        affinity_dim (int): Channels in which tokens are compared. Defaults to 16.
        weigh (bool): What the logits have learnt is part of the pre-softmax mask, too, and so moves the weights of
            entries that stay on. In the paper the binary mask alone learns by the loss. Defaults to False.

    Attributes:
        logits (Tensor): (N, P) mask logits.
        directions (Tensor): (D, d) what tokens are compared by; only with ``kmeans_steps``, and a parameter, too.
        step (Tensor): (N, P) running mean of the steps of training.
        stats (ClassStatistics, optional): Statistics of the merged tokens.
        report (BottleneckReport, optional): What a log says of this layer.
        targets (BatchTargets or Tensor, optional): Of the batch about to come, (B, C) distributions or (B,)
            class indices; set by whoever knows the labels, read in training only. A forward pass with targets
            must not run twice, hence not within activation checkpointing.
        reporting (bool): Whether the batch about to come goes into the report.
        fitting (bool): Whether the batch about to come determines the projection of the statistics.
        active (bool): Whether to merge. While False the statistics are kept all the same.
    """

    def __init__(self,
                 source: Grid,
                 target: Grid,
                 embed_dims: int,
                 first: bool = False,
                 base: Grid | None = None,
                 num_classes: int | None = None,
                 mode: str = 'static',
                 eta: float = 1.0,
                 beta: float = 10.0,
                 normalize: bool = True,
                 center: bool = True,
                 step_norm: str = 'rms',
                 stat_dim: int | None = 16,
                 momentum: float = 0.1,
                 prior: str = 'area',
                 inverse: str = 'lstsq',
                 temperature: float = 1.0,
                 noise: bool = True,
                 weigh: bool = False,
                 kmeans_steps: int = 0,
                 affinity: float = 20.0,
                 affinity_dim: int = 16) -> None:
        super().__init__()
        for name, value, known in (('mode', mode, MODES), ('step_norm', step_norm, STEP_NORMS),
                                   ('prior', prior, PRIORS), ('inverse', inverse, INVERSES)):
            if value not in known:
                raise ValueError(f'{name} must be one of {tuple(known)}, got {value!r}')
        if temperature <= 0:
            raise ValueError(f'temperature must be positive, got {temperature}')
        if not 0 < momentum <= 1:
            raise ValueError(f'momentum must be in (0, 1], got {momentum}')
        if kmeans_steps < 0 or affinity_dim < 1 or not 0 <= affinity <= MAX_AFFINITY:
            raise ValueError('kmeans_steps must not be negative, affinity_dim be positive, and affinity lie in '
                             f'[0, {MAX_AFFINITY:g}], got {kmeans_steps}, {affinity_dim} and {affinity}')
        self.source, self.target = tuple(source), tuple(target)
        self.base = self.source if base is None else tuple(base)
        self.kmeans_steps, self.affinity = kmeans_steps, affinity
        self.mode, self.eta, self.step_norm, self.momentum = mode, eta, step_norm, momentum
        self.temperature, self.noise, self.weigh = temperature, noise, weigh
        self._prior, self._inverse = PRIORS[prior], INVERSES[inverse]

        self.logits = nn.Parameter(self._prior.logits(self.source, self.target, self.base))
        self.stats = self.report = None
        if num_classes is not None and not first:
            tokens, merged_tokens = math.prod(self.source), math.prod(self.target)
            space = dict(beta=beta, normalize=normalize, center=center)
            self.stats = ClassStatistics(num_classes, merged_tokens, embed_dims, stat_dim, **space)
            self.report = BottleneckReport(num_classes, tokens * self.stats.centroids.shape[-1], **space)
            self.register_buffer('step', torch.zeros_like(self.logits))
        if kmeans_steps:
            self.directions = nn.Parameter(directions(embed_dims, affinity_dim))
        self.register_buffer('merging', torch.ones((), dtype=torch.bool))
        self.targets: BatchTargets | Tensor | None = None
        self.reporting = self.fitting = False
        self._observed: Tensor | None = None
        self._active = True
        self._cache: dict = {}
        self._cache_stamp: tuple = ()

    @property
    def active(self) -> bool:
        return self._active

    @active.setter
    def active(self, value: bool) -> None:
        # The buffer travels with checkpoints; the flag spares the host waiting for the device at every
        # forward pass.
        self._active = value
        self.merging.fill_(value)

    def forward(self, x: Tensor,
                carry: Carry | None = None) -> tuple[WindowedMerge | None, Carry | None]:
        """The merging of maps like ``x``, and what the next block needs to know.

        Args:
            x (Tensor): (B, ..., C, H, W), tokens before merging; those of ``...`` share the mask, and for the
                statistics their channels are one token's, D in all.
            carry (Carry, optional): From the block before; None in the first.

        Returns:
            tuple: The operator (None while merging is off) and this block's own carry.
        """
        if self._is_constant():
            key = ('merging', self.active, *x.shape[-2:])
            operator, carry = self._cached(key, lambda: self._constant_merging(x, carry), self._stamp(carry))
        else:
            with autocast_off(x):
                carry = self._step(x, carry)
                operator = self._operator(x, carry, self.matrices)
        if self.kmeans_steps and operator is not None:
            operator = self._following(operator, x)
        return operator, carry

    def _following(self, operator: WindowedMerge, x: Tensor) -> WindowedMerge:
        """The operator with the masks of each image of ``x``."""
        with autocast_off(x):
            tokens = x.detach().flatten(1, -3).movedim(1, -1).float() @ self.directions.float()
            # What all tokens of an image have in common says nothing of which are alike.
            tokens = tokens - tokens.mean((1, 2), keepdim=True)
            return operator.following(
                tokens, lambda mask, windows: soft_kmeans(mask, windows, self.kmeans_steps, self.affinity))

    def _constant_merging(self, x: Tensor,
                          carry: Carry | None) -> tuple[WindowedMerge | None, Carry | None]:
        """Operator and carry as long as the mask is constant; different maps share the carry and the tiles."""

        def matrices(source: Grid, target: Grid, steps: Tensor | None) -> tuple[Tensor, Tensor]:
            return self._cached((source, target), lambda: self.matrices(source, target, steps))

        with autocast_off(x):
            own = self._cached(('carry', ), lambda: self._step(x, carry))
            operator = self._operator(x, own, matrices)
            return None if operator is None else operator.collapse(), own

    def _operator(self, x: Tensor, carry: Carry | None, matrices: Callable) -> WindowedMerge | None:
        if not self.active:
            return None
        steps = None if carry is None else carry.steps
        return WindowedMerge(x.shape[-2:], self.source, self.target,
                             lambda source, target: matrices(source, target, steps))

    def matrices(self, source: Grid, target: Grid, steps: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mask and way back for one tile.

        Args:
            source (tuple): The tile (h, w) before merging, N = h w.
            target (tuple): The tile (h', w') after merging, P = h' w'.
            steps (Tensor, optional): Sum of the steps on the base window's grids, ([B,] N, P).

        Returns:
            tuple[Tensor]: G and U, each ([B,] N, P), float32.
        """
        mask = self._mask(source, target, steps, sample=self.training)
        return mask, mask if self.kmeans_steps else self._inverse(mask)

    def _mask(self, source: Grid, target: Grid, steps: Tensor | None, sample: bool) -> Tensor:
        """G of a tile, its support sampled or, as in evaluation, by sign.

        What the logits have learnt away from their start, and the steps, are resampled from the base window
        to the tile; the start itself is known exactly at every size.
        """
        learnt = self.logits.float() - self._constant(self._prior.logits, self.source, self.target)
        learnt_here = resample_mask(learnt, self.source, self.target, source, target)
        logits = learnt_here + self._constant(self._prior.logits, source, target)
        scores = self._constant(self._prior.scores, source, target)
        if self.weigh or self.kmeans_steps:
            scores = scores + learnt_here
        if self.kmeans_steps:
            support = torch.ones_like(scores)
        else:
            support = gumbel_sigmoid(logits, self.temperature, self.noise) if sample else (logits > 0).to(logits)
            support = keep_largest(support, logits)
        if steps is not None:
            scores = scores + resample_mask(steps, self.source, self.target, source, target)
        return normalize_mask(support, scores)

    @torch.no_grad()
    def _step(self, x: Tensor, carry: Carry | None) -> Carry | None:
        """Carry of the block before, resampled to this block's grids, plus this block's step (Eq. 3)."""
        learning = self.training and self.targets is not None
        steps, pending = None, ()
        if carry is not None:
            if carry.steps is not None:
                steps = resample_mask(carry.steps, carry.source, carry.target, self.source, self.target)
            # Another grid means that a new stage has begun, whose map no earlier mask is about; a window that
            # does not start where the last one ended, that all tokens have been brought back.
            resumes = carry.target == self.source
            if resumes and carry.pending and carry.pending[0].grid == tuple(x.shape[-2:]):
                pending = carry.pending
                for operator in pending:
                    x = operator.merge(x)
        if self.stats is not None:
            step = self._own_step(x, steps, learning)
            steps = step if steps is None else steps + step
        if learning and not self.active:
            pending += (self._preview(x, steps), )
        return None if steps is None and not pending else Carry(self.source, self.target, steps, pending)

    def _own_step(self, x: Tensor, steps: Tensor | None, learning: bool) -> Tensor:
        by_image = self.mode == 'instance' and bool(self.eta)
        if not (learning or by_image):
            return self.step.float()
        if learning and self.fitting:
            self.stats.fit_projection(window_tokens(x, self.source))
            self.fitting = False
        # Projection and windows are both linear; in this order windows are cut from few channels.
        tokens = self.stats.project(map_to_tokens(x).movedim(-2, 1).flatten(2))
        tokens = window_tokens(tokens_to_map(tokens, x.shape[-2:]), self.source)
        # The gradient is taken at the mask of evaluation, before this block's own step.
        before = self._mask(self.source, self.target, steps, sample=False)
        merged = before.mT @ tokens
        if learning:
            targets = self._batch_targets(len(x))
            phi, gradient = self.stats.observe(tokens, merged, targets)
            features = self.report.observe(tokens, targets)
            self._observed = tokens.sum()
        if by_image:
            gradient = self.stats.instance_gradient(tokens, merged)
        step = self._scaled(gradient)
        if learning and not by_image:
            self.step.lerp_(step, self.momentum)
        if learning and self.reporting:
            after = step if steps is None else steps + step
            moved = self._mask(self.source, self.target, after, sample=False) - before
            phi, moved = self.stats.taking_part(phi), moved.abs().sum(-2).mean()
            self.report.add(features, phi, self.stats.q, targets, moved)
        return step

    def _batch_targets(self, batch: int) -> BatchTargets:
        try:
            targets = BatchTargets.of(self.targets, self.stats.num_classes)
        except ValueError as error:
            raise ValueError(f'layer {self.stats.name}: {error}') from None
        if len(targets.shares) != batch:
            raise ValueError(f'layer {self.stats.name}: {batch} images but {len(targets.shares)} targets')
        return targets

    def _preview(self, x: Tensor, steps: Tensor | None) -> WindowedMerge:
        """What this block would do to ``x`` in evaluation, for :meth:`WindowedMerge.merge` alone."""

        def matrices(source: Grid, target: Grid) -> tuple[Tensor, Tensor]:
            mask = self._mask(source, target, steps, sample=False)
            return mask, mask

        return WindowedMerge(x.shape[-2:], self.source, self.target, matrices)

    def _scaled(self, gradient: Tensor) -> Tensor:
        # Tokens that are not finite are reported after the batch; until then they must not break the mask.
        gradient = gradient.nan_to_num(0, 0, 0)
        if self.step_norm == 'rms':
            gradient = gradient - gradient.mean(-2, keepdim=True)
            rms = gradient.square().mean((-2, -1), keepdim=True).sqrt()
            gradient = gradient / rms.clamp_min(NOISE)
        return -self.eta * gradient

    @property
    def checksum(self) -> Tensor:
        """A number that is finite if all tokens of the last training batch were; of shape ()."""
        return self.logits.new_zeros(()) if self._observed is None else self._observed

    def check_tokens(self) -> None:
        """Refuse the last training batch if not all its tokens were finite.

        The host must wait for the device to know, so the forward pass does not ask.

        Raises:
            ValueError: Names the layer and the shape of its tokens.
        """
        if not self.checksum.isfinite():
            tokens, channels = math.prod(self.source), self.stats.centroids.shape[-1]
            raise ValueError(f'layer {self.stats.name}: NaN or infinite values in its tokens, of shape '
                             f'(B, {tokens}, {channels})')

    def _is_constant(self) -> bool:
        """Whether the mask depends on nothing but parameters and buffers, in evaluation as a rule."""
        per_image = self.stats is not None and self.mode == 'instance' and self.eta
        learning = torch.is_grad_enabled() and self.logits.requires_grad
        return not (self.training or per_image or learning)

    def _stamp(self, carry: Carry | None) -> tuple:
        """What the constant mask was made from; to hold the carry keeps its identity from being reused."""
        version = None if self.stats is None else self.step._version
        return self.logits._version, version, id(carry), carry

    def _cached(self, key: tuple, compute: Callable, stamp: tuple | None = None):
        if stamp is not None and stamp[:3] != self._cache_stamp[:3]:
            self._cache.clear()
            self._cache_stamp = stamp
        if key not in self._cache:
            self._cache[key] = compute()
        return self._cache[key]

    def _forget(self) -> None:
        self._cache.clear()
        self._cache_stamp = ()

    # A mask computed before any of these is stale after it.
    def train(self, mode: bool = True) -> 'LTM':
        self._forget()
        return super().train(mode)

    def _apply(self, *args, **kwargs) -> 'LTM':
        self._forget()
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs) -> None:
        self._forget()
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self._active = bool(self.merging)

    def __getstate__(self) -> dict:
        return {**self.__dict__, '_cache': {}, '_cache_stamp': (), 'targets': None, '_observed': None}

    def _constant(self, function: Callable, source: Grid, target: Grid) -> Tensor:
        # What is left beside whole windows has a history of its own, which no merge but its own knows.
        base = self.base if (source, target) == (self.source, self.target) else source
        return self._cached(
            (function, source, target), lambda: function(source, target, base).to(self.logits.device))

    def extra_repr(self) -> str:
        n, p = math.prod(self.source), math.prod(self.target)
        return (f'source={self.source}, target={self.target}, ratio={p / n:.3f}, eta={self.eta}, '
                f'mode={self.mode!r}')


def window_tokens(x: Tensor, window: Grid) -> Tensor:
    """Tokens of the mean of all whole windows of a map; a smaller map is resized to one window.

    Args:
        x (Tensor): (B, ..., C, H, W).
        window (tuple): (h, w).

    Returns:
        Tensor: (B, h w, D), float32, D all channels of all ``...``.
    """
    (h, w), (height, width) = window, x.shape[-2:]
    x = x.float()
    if height < h or width < w:
        size = (max(height, h), max(width, w))
        maps = F.interpolate(x.flatten(0, -4), size=size, mode='bilinear', align_corners=False)
        x, (height, width) = maps.unflatten(0, x.shape[:-3]), size
    rows, cols = height // h, width // w
    x = x[..., :rows * h, :cols * w].unflatten(-1, (cols, w)).unflatten(-3, (rows, h))
    return x.mean((-4, -2)).flatten(1, -3).flatten(2).mT
