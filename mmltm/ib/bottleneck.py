"""The information bottleneck of merged features, and its separable upper bound.

Wang and Yang, arXiv 2407.15219, section 3.2 and Theorem 3.1. Natural logarithms. Departures: targets may be
distributions, and a row of them that sums to zero leaves its sample out of every average.

All quantities are made of probabilities that may underflow to zero although their logarithm is finite. Such a
probability is clamped to the smallest normal number of its dtype before the logarithm, so that 0 log 0 = 0 in
value and in gradient, and nothing is infinite or NaN. Clamping loosens no proof: it can only raise C0, and
Theorem 3.1 holds with any C0 so obtained, up to C times that smallest number.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .inputs import check_rows, target_distribution
from .precision import full_precision


def log_probability(probability: Tensor) -> Tensor:
    """Logarithm, at least that of the smallest normal number: -87.3 in float32, -708.4 in float64."""
    return probability.clamp_min(torch.finfo(probability.dtype).tiny).log()


def mutual_information(joint: Tensor) -> Tensor:
    """sum_ab p(a, b) log(p(a, b) / (p(a) p(b))) of a joint distribution (A, B)."""
    log_marginals = log_probability(joint.sum(1, keepdim=True)) + log_probability(joint.sum(0))
    return (joint * (log_probability(joint) - log_marginals)).sum()


class BottleneckSums(NamedTuple):
    """All that IB and IBB need to know of some samples, as sums, which add up over batches and ranks.

    A sample weighs w_i = sum_y p_i(y), one as a rule.
    """
    mass: Tensor  # sum_i w_i
    joint_input: Tensor  # (C, B), sum_i w_i phi(X~_i, a) phi(X_i, b)
    joint_label: Tensor  # (C, k), sum_i phi(X~_i, a) p_i(y), of all classes y, or of those that occur
    inputs: Tensor  # (B,), sum_i w_i phi(X_i, b)
    log_inputs: Tensor  # (B,), sum_i w_i log phi(X_i, b)
    certainty: Tensor  # sum_i w_i sum_b phi(X_i, b) log phi(X_i, b)

    @classmethod
    def of(cls, phi_merged: Tensor, phi_input: Tensor, p: Tensor) -> 'BottleneckSums':
        """Of samples with soft assignments (n, C) and (n, B) and target shares (n, k)."""
        check_rows(phi_merged=phi_merged, phi_input=phi_input, targets=p)
        weights, log_input = p.sum(1), log_probability(phi_input)
        return cls(
            mass=weights.sum(),
            joint_input=phi_merged.T @ (weights[:, None] * phi_input),
            joint_label=phi_merged.T @ p,
            inputs=weights @ phi_input,
            log_inputs=weights @ log_input,
            certainty=weights @ (phi_input * log_input).sum(1))

    def ib_loss(self) -> tuple[Tensor, Tensor, Tensor]:
        """IB, I(X~, X) and I(X~, Y), see :func:`ib_loss`."""
        merged_input = mutual_information(self.joint_input / self.mass)
        merged_label = mutual_information(self.joint_label / self.mass)
        return merged_input - merged_label, merged_input, merged_label

    def ib_bound(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """IBB and C0, see :func:`ib_bound`, from Q(a|y), (C, k)."""
        if q.shape != self.joint_label.shape:
            raise ValueError(f'q of shape {tuple(q.shape)} does not match assignments and targets of shape '
                             f'{tuple(self.joint_label.shape)}')
        label_term = (self.joint_label / self.mass * log_probability(q)).sum()
        c0 = (self.inputs / self.mass) @ (self.log_inputs / self.mass)
        return self.certainty / self.mass - label_term, c0


@full_precision
def ib_loss(phi_merged: Tensor, phi_input: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Information bottleneck loss, IB = I(X~, X) - I(X~, Y) (section 3.2).

    The joint distributions are averages over the samples, p(a, b) = mean_i phi(X~_i, a) phi(X_i, b) and
    p(a, y) = mean_i phi(X~_i, a) p_i(y).

    From soft assignments of the merged features, (n, C), and of the input features, (n, B), and targets of which one at
    least is not zero. Returns IB, I(X~, X) and I(X~, Y), in nats.
    """
    return BottleneckSums.of(phi_merged, phi_input, _some_targets(targets, phi_merged)).ib_loss()


@full_precision
def ib_bound(phi_merged: Tensor, phi_input: Tensor, targets: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """Separable upper bound of the IB loss: IB <= IBB - C0 (Theorem 3.1).

    IBB = mean_i [sum_b phi(X_i, b) log phi(X_i, b) - sum_a phi(X~_i, a) sum_y p_i(y) log Q(a|y)], where the
    paper's factor sum_a phi(X~_i, a) = 1 of the first term is left out, and
    C0 = 1/n^2 sum_ij sum_b phi(X_i, b) log phi(X_j, b), computed as a product of two averages in O(n C).

    Arguments as for :func:`ib_loss`, and ``q``, (C, C), Q(a|y) of this batch or of any other: the bound holds for every
    one. Returns IBB and C0, in nats.
    """
    return BottleneckSums.of(phi_merged, phi_input, _some_targets(targets, phi_merged)).ib_bound(q)


def _some_targets(targets: Tensor, phi: Tensor) -> Tensor:
    p = target_distribution(targets, phi.shape[1]).to(phi.dtype)
    if not p.sum() > 0:
        raise ValueError(f'targets of shape {tuple(p.shape)}: no sample has a target')
    return p


def label_scores(p: Tensor, q: Tensor) -> Tensor:
    """Label score of every class for every sample, l_ia = sum_y p_i(y) log Q(a|y), (n, C).

    From target shares (n, k) and Q (C, k), both of all classes y, or of those that have any share.
    """
    if q.shape[1] != p.shape[1]:
        raise ValueError(f'q of shape {tuple(q.shape)} does not match targets over {p.shape[1]} classes')
    return p @ log_probability(q).T
