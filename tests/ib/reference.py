"""The step by image word for word in float64, class by class: what the fast forms are measured against."""

import torch
import torch.nn.functional as F
from torch import Tensor


def literal_phi(feature: Tensor, centroids: Tensor, taking_part: Tensor, beta: float, normalize: bool,
                origin: Tensor | float = 0.0) -> Tensor:
    """phi of one flattened feature (F,), (C,), zero for classes that take no part."""
    feature = feature - origin
    exponents = []
    for a in range(len(centroids)):
        anchor = centroids[a].flatten() - origin
        if normalize:
            distance = (F.normalize(feature, dim=0) - F.normalize(anchor, dim=0)).square().sum()
        else:
            distance = (feature - anchor).square().sum()
        exponents.append(-beta * distance if taking_part[a] else -torch.inf * torch.ones_like(distance))
    return torch.stack(exponents).softmax(0)


def literal_posterior(phi: Tensor, q: Tensor, counts: Tensor) -> Tensor:
    """p(y) ~ sum_a phi_a Q(a|y) P(y) of one sample, (C,), without a gradient."""
    p = torch.stack([sum(phi[a] * q[a, y] for a in range(len(phi))) * counts[y] for y in range(len(phi))])
    return (p / p.sum()).detach()


def origin_of(statistics) -> Tensor | float:
    """The point from which features are seen: the mean of all samples where they are centred."""
    if not statistics.center:
        return 0.0
    return statistics.counts @ statistics.centroids.flatten(1) / statistics.counts.sum()


def literal_bound(feature: Tensor, statistics) -> Tensor:
    """What one sample contributes to IBB, -sum_a phi_a sum_y p(y) log Q(a|y), its posterior p held fixed."""
    taking_part = (statistics.assigned > 0) & (statistics.counts > 0)
    q = statistics.q
    phi = literal_phi(feature, statistics.centroids, taking_part, statistics.beta, statistics.normalize,
                      origin_of(statistics))
    p = literal_posterior(phi, q, statistics.counts)
    tiny = torch.finfo(q.dtype).tiny
    return -sum(phi[a] * p[y] * q[a, y].clamp_min(tiny).log() for a in range(len(phi)) for y in range(len(phi)))


def literal_direction(merged: Tensor, statistics) -> Tensor:
    """V_i = -1 / (2 beta) d IBB_i / d X~_i by automatic differentiation, (M, P, d)."""
    rows = []
    for sample in merged:
        feature = sample.flatten().detach().requires_grad_()
        gradient, = torch.autograd.grad(literal_bound(feature, statistics), feature)
        rows.append(gradient.view_as(sample) / (-2 * statistics.beta))
    return torch.stack(rows)


def literal_step(before: Tensor, tokens: Tensor, merged: Tensor, statistics, eta: Tensor | float = 1.0,
                 layer: Tensor | None = None) -> Tensor:
    """A_i = A_before + 2 eta beta f(Z_i) V_i^T with f(Z) = Z + Z W, (M, N, P), differentiable in eta and W.

    Args:
        before (Tensor): ([M,] N, P), the mask carried from the block before, on this block's grids.
        tokens (Tensor): (M, N, d) tokens Z_i before merging, in the space of the statistics.
        merged (Tensor): (M, P, d) merged tokens by the mask of before.
        statistics (ClassStatistics): In float64.
        eta (Tensor or float): The size of the step, or a learnt gain.
        layer (Tensor, optional): (d, d) W. None: zero.
    """
    directions = literal_direction(merged, statistics)
    masks = []
    for i, (z, v) in enumerate(zip(tokens, directions)):
        f = z if layer is None else z + z @ layer
        masks.append((before[i] if before.ndim == 3 else before) + 2 * eta * statistics.beta * f @ v.T)
    return torch.stack(masks)
