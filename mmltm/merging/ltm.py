"""Learnable token merging: the mask of one block with the information-bottleneck step (paper, sections 3.1 and 3.2).

Departures from the paper, see docs/departures.md for all of them:

* A mask starts at a prior and belongs to a base window; every window of an image is a sample with its own step.
* The step is taken on centred, L2-normalised features at beta = 10, scaled to unit root mean square, and its size is
  learnt block by block (the paper: beta = 1, the raw gradient, eta = 1), because raw steps change nothing or
  overshoot, depending on the layer.
* ``mode='static'`` puts a running mean of the training's steps in the place of each window's own: one mask for all
  images. The paper's inference is ``mode='instance'``.
"""

import math
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from mmltm.ib import BatchTargets, BottleneckReport, ClassStatistics, FoldedStatistics
from mmltm.ib.constants import no_grad
from mmltm.ib.precision import at_least_float32, autocast_off

from .grids import Grid, resample_mask
from .learnt_mask import LearntMask
from .masks import least_squares_inverse, normalize_mask
from .step import NOISE, STEP_NORMS, WindowSteps, join_windows, kind_of, project_map, split_windows, window_steps
from .windowed import WindowedMerge, matmul

MODES = ('static', 'instance')


class Carry(NamedTuple):
    """What a block hands to the next: the steps so far, the pre-softmax mask of Eq. 3 less the prior.

    Their sum is (N, P) on the grids of the block's own mask before and after merging, or that of every window. While
    merging is off ``pending`` are the mergings that the map would have undergone in this stage: the statistics of the
    next block are about tokens so merged.
    """
    source: Grid
    target: Grid
    steps: Tensor | WindowSteps | None
    pending: tuple[WindowedMerge, ...] = ()


#: The paper's mask module, which takes a step from M alone on: see docs/departures.md for what cannot be literal.
PAPER = dict(window=None, rounding='ceil', prior='uniform', mode='instance', eta=1.0, layer=True, beta=1.0,
             normalize=False, center=False, step_norm='none', stat_dim=None)


class LTM(LearntMask):
    """Merges the tokens of one block by a learnt mask that takes a step on the information-bottleneck bound.

    Args:
        num_classes (int, optional): Classes C of the statistics behind the step. None: no statistics and no step, the
            mask learns by its logits alone. Defaults to None.
        mode (str): 'instance', every window takes its own step, or 'static', all take the running mean of those of the
            training. Defaults to 'instance'.
        eta (float): Size of the step. By window it is where the learnt gain starts; 0 keeps the statistics and takes no
            step as long as the gain stays there. Defaults to 1.0.
        layer (bool): Tokens pass a learnt layer before the step, f(Z) = Z + Z W; W starts at 0. Defaults to True.
        beta (float): Inverse temperature of the soft class assignment. Defaults to 10.0.
        normalize (bool): L2-normalise features before distances. Defaults to True.
        center (bool): Subtract the mean of the class centroids before that. Defaults to True.
        step_norm (str): 'rms' scales every step to unit root mean square, 'none' leaves it. Defaults to 'rms'.
        stat_dim (int, optional): Channels left by the projection that bounds the memory of the statistics;
            None is exact. Defaults to 16.
        momentum (float): Of the running mean of the steps. Defaults to 0.1.
        *args, **kwargs: See :class:`~.learnt_mask.LearntMask`.

    Attributes:
        step_gain (Tensor): Scalar, the learnt size of the step; with ``mode='instance'``.
        step_weight (Tensor): W of the layer, (d, d) in the space of the statistics; with ``stat_dim=None`` (D, D), or
            (D / groups, D / groups) for each of the maps that merge alike.
        step (Tensor): (N, P) running mean of the steps of training.
        stats (ClassStatistics, optional): Statistics of the merged tokens; none in the first block, which takes no
            step.
        report (BottleneckReport, optional): What a log says of this layer.
        targets (BatchTargets or Tensor, optional): Of the batch about to come, (B, C) distributions or (B,) indices;
            set by whoever knows the labels, read in training, or while ``gathering``. A forward pass with targets must
            not run twice, hence not within activation checkpointing.
        gathering (bool): Whether statistics are taken in evaluation, too.
        reporting (bool): Whether the batch about to come goes into the report.
        fitting (bool): Whether the batch about to come determines the projection of the statistics.
        active (bool): Whether to merge. While False the statistics are kept all the same.
    """
    presets = {'paper': PAPER}
    step: Tensor | None

    def __init__(self, *args, num_classes: int | None = None, mode: str = 'instance', eta: float = 1.0,
                 layer: bool = True, beta: float = 10.0, normalize: bool = True, center: bool = True,
                 step_norm: str = 'rms', stat_dim: int | None = 16, momentum: float = 0.1, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        for name, value, known in (('mode', mode, MODES), ('step_norm', step_norm, STEP_NORMS)):
            if value not in known:
                raise ValueError(f'{name} must be one of {tuple(known)}, got {value!r}')
        if not 0 < momentum <= 1:
            raise ValueError(f'momentum must be in (0, 1], got {momentum}')
        self.mode, self.eta, self.step_norm, self.momentum = mode, eta, step_norm, momentum
        self.stats: ClassStatistics | None = None
        self.report: BottleneckReport | None = None
        self.step_weight: nn.Parameter | None = None
        self.register_buffer('step', None)
        if num_classes is not None and not self.first:
            tokens, merged_tokens = math.prod(self.source), math.prod(self.target)
            space: dict[str, Any] = dict(beta=beta, normalize=normalize, center=center)
            self.stats = ClassStatistics(num_classes, merged_tokens, self.embed_dims, stat_dim, **space)
            channels = self.stats.centroids.shape[-1]
            self.report = BottleneckReport(num_classes, tokens * channels, **space)
            self.step = torch.zeros_like(self.logits)
            if mode == 'instance':
                self.step_gain = nn.Parameter(torch.tensor(float(eta)))
                if layer:
                    side = channels // self.groups if self.stats.projection is None else channels
                    self.step_weight = nn.Parameter(torch.zeros(side, side))
        self.targets: BatchTargets | Tensor | None = None
        self.reporting = self.fitting = self.gathering = False
        self._observed: Tensor | None = None
        self._seen: tuple = ()

    @property
    def _known(self) -> ClassStatistics:
        """The statistics, where they are known to be kept."""
        return cast(ClassStatistics, self.stats)  # torch.jit asks for every property of a module

    def forward(self, x: Tensor, carry: Carry | None = None) -> tuple[WindowedMerge | None, Carry | None]:
        """See :class:`GridMerger`. For the statistics, channels of maps that merge alike are one token's, D in all."""
        if self.is_constant:
            of = ('logits', ) if self.step is None else ('logits', 'step')
            own, steps = self.kept('carry', lambda: self._static_carry(x, carry), of, carry)
            return (self.constant_operator(x, lambda source, target: self.matrices(source, target, steps), of, carry)
                    if self.active else None), own
        with autocast_off(x):
            if self.mode == 'static' or self.stats is None:
                own, steps = self._static_carry(x, carry)
                operator = self.windowed(x, lambda source, target: self.matrices(source, target, steps))
            else:
                operator, own = self._by_window(x, carry)
        return (operator if self.active else None), own

    @property
    def is_constant(self) -> bool:
        return super().is_constant and not self.learning and (self.mode == 'static' or self.stats is None)

    @property
    def learning(self) -> bool:
        """Whether the batch about to come goes into the statistics."""
        return self.targets is not None and (self.training or self.gathering)

    @torch.no_grad()
    def _static_carry(self, x: Tensor, carry: Carry | None) -> tuple[Carry | None, Tensor | None]:
        """Own carry, and its steps: those of the block before on this block's grids, plus its own, the same for all."""
        learning, steps = self.learning, None
        if carry is not None and isinstance(carry.steps, Tensor):
            steps = resample_mask(carry.steps, carry.source, carry.target, self.source, self.target)
        x, pending = self._pending(x, carry)
        if self.step is not None:
            step = at_least_float32(self.step)
            if learning:
                operator = self.windowed(x, lambda source, target: (self.mask(source, target, steps), ) * 2)
                masks = [region.merge.transpose(-2, -1) for region in operator.regions]
                tiles = self._tiles(x, operator)
                gradient = cast(Tensor, self._observe(tiles, self._merged(tiles, operator, masks), operator))
                # Tokens that are not finite are reported after the batch; until then they must not break the mask.
                gradient = gradient.nan_to_num(0, 0, 0)
                if self.step_norm == 'rms':
                    gradient = gradient - gradient.mean(-2, keepdim=True)
                    gradient = gradient / gradient.square().mean().sqrt().clamp_min(NOISE)
                step = -self.eta * gradient
                self.step.lerp_(step, self.momentum)
                if self.reporting:
                    self._add_to_report([
                        self.mask(*kind_of(region)[:2], step if steps is None else steps + step).transpose(-2, -1)
                        - before for region, before in zip(operator.regions, masks)])
            steps = step if steps is None else steps + step
        if learning and not self.active:
            pending += (self.windowed(x, lambda source, target: (self.mask(source, target, steps), ) * 2), )
        return (Carry(self.source, self.target, steps, pending) if steps is not None or pending else None), steps

    def _by_window(self, x: Tensor, carry: Carry | None) -> tuple[WindowedMerge, Carry]:
        """The operator with a mask for every window, which has taken the window's own step (Eq. 3)."""
        learning = self.learning
        x, pending = self._pending(x, carry)
        scores: list[Tensor] = []

        def matrices(source: Grid, target: Grid) -> tuple[Tensor, Tensor]:
            mask, unmerge, score = self._tile(source, target)
            scores.append(score)
            return mask, unmerge

        operator = self.windowed(x, matrices)
        kinds = [kind_of(region) for region in operator.regions]
        carried = None
        if carry is not None and isinstance(carry.steps, WindowSteps):
            carried = carry.steps.resampled(kinds)
        # The gradient is taken at the mask of evaluation, before this block's own step.
        masks = [region.merge.transpose(-2, -1) for region in operator.regions] if carried is None else [
            (score + steps).softmax(-1) for score, steps in zip(scores, carried)]
        with no_grad():
            tiles = self._tiles(x, operator)
            merged = self._merged(tiles, operator, [mask.detach() for mask in masks])
            if learning:
                self._observe(tiles, merged, operator)
            direction = 2 * self._known.beta * self._known.posterior_direction(merged)
            directions = split_windows(direction, operator, x.shape[0], self.target)
        weight = None if self.step_weight is None else at_least_float32(self.step_weight)
        steps = window_steps(tiles, directions, self.step_gain, weight, self.step_norm)
        if carried is not None:
            steps = [own + before for own, before in zip(steps, carried)]
        if learning and self.reporting:
            self._add_to_report([(score + total).softmax(-1).detach() - before
                                 for score, total, before in zip(scores, steps, masks)])
        if self.training:  # the support is sampled, and the way back is that of before the step
            moved = []
            for (source, target, _), total in zip(kinds, steps):
                support, score = self.support(source, target, sample=True), self.scores(source, target)
                moved.append((normalize_mask(support, score + total.transpose(-2, -1)),
                              least_squares_inverse(normalize_mask(support, score))))
        else:
            moved = [((score + total).softmax(-1).transpose(-2, -1), region.unmerge)
                     for score, total, region in zip(scores, steps, operator.regions)]
        operator = operator.with_matrices(moved)
        if learning and not self.active:
            pending += (operator, )
        return operator, Carry(self.source, self.target, WindowSteps(tuple(steps), tuple(kinds)), pending)

    def _tile(self, source: Grid, target: Grid) -> tuple[Tensor, Tensor, Tensor]:
        """The mask of a tile before any step, by sign, its way back, which serves all steps, and its scores.

        These are the pre-softmax mask, transposed, minus infinity where the binary mask is off.
        """

        def make() -> tuple[Tensor, Tensor, Tensor]:
            support, scores = self.support(source, target), self.scores(source, target)
            mask = normalize_mask(support, scores)
            scores = scores.masked_fill(support <= 0, -math.inf)
            return mask, least_squares_inverse(mask), scores.transpose(-2, -1).contiguous()

        return self.kept(('tile', source, target), make, ('logits', )) if super().is_constant else make()

    def _tiles(self, x: Tensor, operator: WindowedMerge) -> list[Tensor]:
        """Tokens of all windows in the space of the statistics, (B, T, N, d) for each kind of tile."""
        x = x.detach()
        if self.fitting:
            self._known.fit_projection(x.flatten(1, -3).permute(0, 2, 3, 1).float())
            self.fitting = False
        if self._known.projection is None:
            return operator.cut(at_least_float32(x.flatten(1, -3).permute(0, 2, 3, 1)))
        return operator.cut(project_map(x, self._known.projection))

    def _merged(self, tiles: list[Tensor], operator: WindowedMerge, masks: list[Tensor]) -> Tensor:
        """Merged tokens of all windows, (B T, P, d)."""
        targets = [kind_of(region)[1] for region in operator.regions]
        return join_windows([matmul(mask, tile) for mask, tile in zip(masks, tiles)], targets, self.target)

    def _pending(self, x: Tensor, carry: Carry | None) -> tuple[Tensor, tuple[WindowedMerge, ...]]:
        """The map as it would be if merging were on, and the mergings that it lacks."""
        # Another grid means that a new stage has begun, whose map no earlier mask is about; a window that does not
        # start where the last one ended, that all tokens have been brought back.
        if carry is None or not carry.pending or carry.target != self.source or (
                carry.pending[0].grid != tuple(x.shape[-2:])):
            return x, ()
        for operator in carry.pending:
            x = operator.merge(x)
        return x, carry.pending

    @torch.no_grad()
    def _observe(self, tiles: list[Tensor], merged: Tensor, operator: WindowedMerge) -> Tensor | None:
        """Add a batch, as :meth:`_tiles` and :meth:`_merged` give it, to the statistics.

        Its mean gradient, (N, P), where a running mean is taken of it.
        """
        tokens = join_windows(tiles, [kind_of(region)[0] for region in operator.regions], self.source)
        targets = self._window_targets(operator, len(tiles[0]))
        phi, gradient = self._known.observe(tokens if self.mode == 'static' else None, merged, targets)
        if self.report is not None:
            self._seen = self.report.observe(tokens, targets), phi, targets
        self._observed = tokens.sum()
        return gradient

    def _add_to_report(self, changes: list[Tensor]) -> None:
        """The batch just observed, and by how much the masks of its tiles moved, (..., P, N) each."""
        features, phi, targets = self._seen
        moved = torch.stack([change.abs().sum(-1).mean() for change in changes]).mean()
        if self.report is not None:
            self.report.add(features, self._known.taking_part(phi), self._known.q, targets, moved)

    def _window_targets(self, operator: WindowedMerge, batch: int) -> BatchTargets:
        assert self.targets is not None
        try:
            targets = BatchTargets.of(self.targets, self._known.num_classes)
        except ValueError as error:
            raise ValueError(f'layer {self._known.name}: {error}') from None
        if len(targets.shares) != batch:
            raise ValueError(f'layer {self._known.name}: {batch} images but {len(targets.shares)} targets')
        parts = []
        for region in operator.regions:
            # Edges of the tiles on both axes, as shares of the map.
            edges = [[(tile.start + index * tile.size) / side for index in range(tile.repeat + 1)]
                     for tile, side in zip((region.rows, region.cols), operator.grid)]
            parts.append(targets.for_windows(*edges).shares.unflatten(0, (batch, -1)))
        return targets._replace(shares=torch.cat(parts, 1).flatten(0, 1))

    def fold(self) -> None:
        """Keep of the statistics only what evaluation needs. There is no way back."""
        self.report = None
        if self.mode == 'static' or self.stats is None:
            self.stats = None
        else:
            self.stats, self.step = cast(ClassStatistics, FoldedStatistics(self.stats)), None

    @property
    def checksum(self) -> Tensor:
        """A number that is finite if all tokens of the last training batch were; of shape ()."""
        return self.logits.new_zeros(()) if self._observed is None else self._observed

    def check_tokens(self) -> None:
        """Refuse, by a ValueError that names layer and shape, the last training batch if not all tokens were finite.

        The host must wait for the device to know, so the forward pass does not ask.
        """
        if not self.checksum.isfinite():
            tokens, channels = math.prod(self.source), self._known.centroids.shape[-1]
            raise ValueError(f'layer {self._known.name}: NaN or infinite values in its tokens, of shape '
                             f'(B, {tokens}, {channels})')

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs) -> None:
        # Checkpoints from before there was a learnt gain and layer: as they start.
        for name, value in self.named_parameters(recurse=False):
            if name in ('step_gain', 'step_weight') and f'{prefix}logits' in state_dict:
                state_dict.setdefault(prefix + name, torch.full_like(value, self.eta if name == 'step_gain' else 0.))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def __getstate__(self) -> dict:
        return {**super().__getstate__(), 'targets': None, '_observed': None, '_seen': ()}

    def extra_repr(self) -> str:
        return f'{super().extra_repr()}, eta={self.eta}, mode={self.mode!r}'
