"""Class statistics of one layer, streamed through an epoch: what Eq. 2 needs to know about the data.

Wang and Yang, arXiv 2407.15219, Algorithm 1. Departures:

* The paper makes an extra pass over the training set for the statistics of each epoch. Here they are sums
  over the training steps themselves, which know only the centroids of the epoch before: Q is assigned with
  those. One epoch (or one pass, see :class:`mmltm.engine.hooks.IBStatisticsHook`) thus gives the centroids, the
  second Q, and the gradient is zero until then; the same holds for a class met for the first time later on.
* Features may be projected to ``stat_dim`` channels, which bounds the memory.

Why no Q after the first epoch: Q(a|y) = phi(c~_y, a) would be at hand, but knows nothing of the spread within a class.
On features of photographs of 10 classes its gradient was 2 to 100 times too long, and on normalised ones with beta = 10
it pointed elsewhere (cosine with the gradient of the true Q -0.1, or 0.4 on centred features).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .assignment import conditional_from_joint
from .bottleneck import label_scores
from .centroids import ClassCentroids
from .constants import no_grad
from .gradient import class_weights, through_normalization, weighted_products
from .posterior import PosteriorFrame, fold_scores, leading_subspace
from .precision import full_precision
from .ranks import sum_over_ranks
from .targets import BatchTargets


class ClassStatistics(ClassCentroids):
    """Class centroids, class counts and Q(a|y) of one layer's merged tokens, and the mask gradient they give.

    A training step calls :meth:`observe` (or :meth:`update` while no gradient is wanted) on tokens that went
    through :meth:`project`; an epoch ends with :meth:`finish_epoch`.

    All state is in float32 buffers of 4 (2 C P d + 2 C^2 + 3 C + D d) bytes, since the sums of the epoch stand beside
    the statistics in use. C = 1000 and P = 36: 12.6 MB with d = 16; exact, 50 MB for D = 144 and 229 MB for D = 768.

    Args:
        *args: Arguments of :class:`ClassCentroids`; ``num_tokens`` is P, the number of merged tokens.
        class_limit (int, optional): Up to this many classes :meth:`posterior_direction` is exact; beyond, it reduces
            the centroids to ``rank_limit`` dimensions and K to half as many, see :mod:`.posterior`. None: always
            exact. Defaults to 128, where both take as long.
        rank_limit (int): See there. Defaults to 32.
        **kwargs: Arguments of :class:`ClassCentroids`.

    Attributes:
        label_q (Tensor): (C, C) rows Q(.|y), of the last epoch with class y; uniform for classes never seen.
            Labels come first, so that a batch reads and writes the rows of its own classes.
        assigned (Tensor): (C,) sum_i phi(X~_i, a) behind Q; a class with none has no part in the gradient.
    """

    label_q: Tensor
    assigned: Tensor
    epoch_joint: Tensor

    def __init__(self, *args, class_limit: int | None = 128, rank_limit: int = 32, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.class_limit, self.rank_limit = class_limit, rank_limit
        classes = self.num_classes
        self.register_buffer('label_q', torch.full((classes, classes), 1 / classes))
        self.register_buffer('assigned', torch.zeros(classes))
        self.register_buffer('epoch_joint', torch.zeros_like(self.label_q))

    @property
    def q(self) -> Tensor:
        """Q(a|y), (C, C), entry (a, y)."""
        return self.label_q.T

    @property
    def ready(self) -> bool:
        """Whether there is a Q to compute a gradient with. Asking makes the host wait for the device."""
        return bool(self.assigned.any())

    @property
    def _epoch_sums(self) -> tuple[Tensor, ...]:
        return self.epoch_features, self.epoch_counts, self.epoch_joint

    @torch.no_grad()
    def reset(self) -> None:
        super().reset()
        self.assigned.zero_()
        self.label_q.fill_(1 / self.num_classes)

    def taking_part(self, phi: Tensor) -> Tensor:
        """phi over the classes that have a Q (others have zeros there); rows of zeros while there is none."""
        return F.normalize(phi * (self.assigned > 0), p=1.0)

    def _scores(self, targets: BatchTargets) -> Tensor:
        return label_scores(targets.shares.to(self.label_q.dtype), self.label_q[targets.classes].T)

    def frame(self) -> PosteriorFrame:
        """What :meth:`posterior_direction` needs, folded anew when the statistics have changed."""
        return self.kept('posterior', self._posterior_frame, ('centroids', 'counts', 'label_q', 'assigned'))

    def _posterior_frame(self) -> PosteriorFrame:
        origin, scale, bias, present = self._frame()
        taking_part = present & (self.assigned > 0)
        anchors = (self.centroids.flatten(1) - origin) * taking_part[:, None]
        if self.normalize:
            anchors = anchors * scale[:, None]
        bias = bias.masked_fill(~taking_part, torch.finfo(bias.dtype).min / 2)
        scores, mass = fold_scores(self.q, self.counts, taking_part)
        basis, coordinates, scores_right = anchors.T, None, None
        if self.class_limit is not None and self.num_classes > self.class_limit:
            basis = leading_subspace(anchors.T, min(self.rank_limit, anchors.shape[1]))
            coordinates = anchors @ basis
            left = leading_subspace(scores, self.rank_limit // 2)
            scores, scores_right = left, left.T @ scores
        return PosteriorFrame(origin, basis, coordinates, bias, scores, scores_right, mass, self.beta, self.normalize)

    @full_precision
    def posterior_direction(self, merged: Tensor) -> Tensor:
        """V of projected merged tokens (M, P, d), their posterior in place of a label: see :mod:`.posterior`.

        A constant to autograd, (M, P, d); zero while there is no Q.
        """
        with no_grad():
            return self.frame().direction(merged)

    @full_precision
    def label_term(self, merged: Tensor, targets: Tensor | BatchTargets) -> Tensor:
        """What projected merged tokens (n, P, d) contribute to IBB: -mean_i sum_a phi(X~_i, a) sum_y p_i(y) log Q(a|y).

        Differentiable, centroids and Q held fixed. Zero while there is no Q.
        """
        targets = BatchTargets.of(targets, self.num_classes)
        phi = self.taking_part(self._assign(*self._aligned(merged)))
        mass = targets.shares.sum().clamp_min(torch.finfo(phi.dtype).tiny)
        return -(phi * self._scores(targets)).sum() / mass

    @torch.no_grad()
    @full_precision
    def observe(self, tokens: Tensor | None, merged: Tensor,
                targets: BatchTargets) -> tuple[Tensor, Tensor | None]:
        """Add a batch to the statistics of this epoch; its mean mask gradient by those of the epochs before.

        From projected tokens before merging (n, N, d) and merged ones (n, P, d): phi, (n, C), and d IBB / d G (Eq. 2),
        (N, P), zero while there is no Q. Collective: the gradient is that of all ranks' batches; without tokens there
        is none. Nothing is checked, since many layers see one batch.
        """
        features, anchors = self._aligned(merged)
        phi = self._assign(features, anchors)
        self._add(merged, phi, targets)
        if tokens is None:
            return phi, None
        weights = class_weights(self.taking_part(phi), self._scores(targets))
        if self.normalize:
            direction = through_normalization(weights * self._frame().scale @ anchors, features)
        else:
            direction = weights @ anchors
        products = weighted_products(tokens, direction.view_as(merged), self.beta)
        total = torch.cat([products.flatten(), targets.shares.sum().view(1).to(products.dtype)])  # one message
        sum_over_ranks(total)
        # In this order nothing overflows if there is no mass.
        return phi, (total[:-1] / total[-1].clamp_min(torch.finfo(total.dtype).tiny)).view_as(products)

    @torch.no_grad()
    @full_precision
    def accumulate(self, features: Tensor, targets: BatchTargets) -> None:
        self._add(features, self.assign(features), targets)

    def _add(self, merged: Tensor, phi: Tensor, targets: BatchTargets) -> None:
        super().accumulate(merged, targets)
        self.epoch_joint.index_add_(0, targets.classes, targets.shares.to(phi.dtype).T @ phi)

    def _finish(self) -> None:
        super()._finish()
        # Nothing was assigned in an epoch that began without centroids.
        labels = self.epoch_joint.sum(1) > 0
        label_q = conditional_from_joint(self.epoch_joint.T).T
        self.label_q.copy_(torch.where(labels[:, None], label_q, self.label_q))
        self.assigned.copy_(torch.where(labels.any(), self.epoch_joint.sum(0), self.assigned))


class FoldedStatistics(nn.Module):
    """What is left of :class:`ClassStatistics` for inference: the projection, and all that V depends on, as buffers."""
    projection: Tensor | None

    def __init__(self, stats: ClassStatistics) -> None:
        super().__init__()
        self.beta = stats.beta
        self.register_buffer('projection', stats.projection)
        self._numbers = {}
        for name, value in stats.frame()._asdict().items():
            if value is None or isinstance(value, Tensor):
                self.register_buffer(name, None if value is None else value.contiguous())
            else:
                self._numbers[name] = value

    @full_precision
    def posterior_direction(self, merged: Tensor) -> Tensor:
        """As that of the statistics."""
        names = (name for name in PosteriorFrame._fields if name not in self._numbers)
        with no_grad():
            return PosteriorFrame(**{name: getattr(self, name) for name in names}, **self._numbers).direction(merged)
