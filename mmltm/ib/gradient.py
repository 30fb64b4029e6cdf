"""Gradient of the information bottleneck bound with respect to the token mask, in closed form.

Wang and Yang, arXiv 2407.15219, Eq. 2, with the centroids and Q held fixed. Departures: the paper's ratio of
sums of exponentials is written with phi, which cannot overflow; the term of the input features is left out,
since sum_a phi(X~_i, a) = 1 makes it constant in the mask; targets may be distributions; normalised features
add the Jacobian of the normalisation.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .assignment import soft_assignment
from .bottleneck import label_scores
from .inputs import check_batch, check_rows, target_distribution
from .precision import full_precision


@full_precision
def bound_direction(merged: Tensor, phi_merged: Tensor, centroids: Tensor, q: Tensor, targets: Tensor,
                    normalize: bool = False) -> Tensor:
    """Direction in which each sample's merged tokens lower its IB bound (the bracket of Eq. 2).

    V_i = sum_a phi_ia (l_ia - sum_b phi_ib l_ib) c~_a with l_ia = sum_y p_i(y) log Q(a|y), (n, P, D). The gradient of
    IBB_i with respect to X~_i is -2 beta V_i. With ``normalize``, c~_a are unit vectors, and V_i passes through the
    Jacobian of the normalisation: (V_i - x <x, V_i>) / ||X~_i|| with x = X~_i / ||X~_i||.

    Arguments as for :func:`mask_gradient`, and ``phi_merged``, (n, C), the soft assignments of ``merged``. Zero for a
    sample whose target is zero, and, with ``normalize``, for one whose feature is zero, since it has no direction to
    turn.
    """
    p = target_distribution(targets, centroids.shape[0]).to(merged.dtype)
    check_rows(merged=merged, phi_merged=phi_merged, targets=p)
    anchors = centroids.flatten(1)
    if normalize:
        anchors = F.normalize(anchors)
    # The weights of a sample sum to zero, hence any point may be subtracted from the centroids; one in their
    # middle keeps a large common offset out of the rounding errors.
    direction = class_weights(phi_merged, label_scores(p, q)) @ (anchors - phi_merged.mean(0) @ anchors)
    if normalize:
        direction = through_normalization(direction, merged.flatten(1))
    return direction.view_as(merged)


def class_weights(phi: Tensor, scores: Tensor) -> Tensor:
    """Weights of the centroids in V_i, phi_ia (l_ia - sum_b phi_ib l_ib), (n, C), from scores l (n, C)."""
    return phi * (scores - (phi * scores).sum(1, keepdim=True))


def through_normalization(direction: Tensor, features: Tensor) -> Tensor:
    """Product of (n, F) directions with the Jacobian of x -> x / ||x||; zero for a zero feature."""
    scale = inverse(features.norm(dim=1, keepdim=True))
    unit = features * scale
    return (direction - unit * (unit * direction).sum(1, keepdim=True)) * scale


def inverse(norms: Tensor) -> Tensor:
    """1 / norm, and 0 for a norm of 0."""
    return torch.where(norms > 0, 1 / norms, 0)


def weighted_products(tokens: Tensor, direction: Tensor, beta: float) -> Tensor:
    """-2 beta sum_i Z_i V_i^T, (N, P), from (n, N, D) and (n, P, D)."""
    tokens, direction = (x.transpose(0, 1).flatten(1) for x in (tokens, direction))
    return -2 * beta * (tokens @ direction.T)


@full_precision
def mask_gradient(tokens: Tensor, merged: Tensor, centroids: Tensor, q: Tensor, targets: Tensor,
                  beta: float = 1.0, normalize: bool = False, present: Tensor | None = None) -> Tensor:
    """Gradient of the IB bound with respect to the mask G, where X~_i = G^T Z_i (Eq. 2).

    The average of -2 beta Z_i V_i^T over the samples, weighted by the mass of their targets; zero if none has any.
    Centroids and Q are held fixed. Costs O(n C (C + P D) + n N P D).

    Args:
        tokens (Tensor): (n, N, D) tokens Z_i before merging.
        merged (Tensor): (n, P, D) merged tokens X~_i.
        centroids (Tensor): (C, P, D) centroids of the merged tokens.
        q (Tensor): (C, C) Q(a|y). A zero where phi is positive, possible with Q of an earlier epoch, counts
            as the smallest normal number of the dtype.
        targets (Tensor): (n,) or (n, C).
        beta (float): Inverse temperature. Defaults to 1.0.
        normalize (bool): L2-normalise features and centroids before distances. Defaults to False.
        present (Tensor, optional): (C,) bool, classes that take part. Defaults to all.

    Returns:
        Tensor: (N, P), d IBB / d G.
    """
    p = target_distribution(targets, centroids.shape[0])
    phi = soft_assignment(merged, centroids, beta, normalize, present)
    direction = bound_direction(merged, phi, centroids, q, p, normalize)
    check_batch('tokens', tokens)
    if tokens.shape[0] != merged.shape[0] or tokens.shape[2] != merged.shape[2]:
        raise ValueError(f'tokens of shape {tuple(tokens.shape)} do not match merged tokens of shape '
                         f'{tuple(merged.shape)}')
    # In this order nothing overflows if there is no mass.
    return weighted_products(tokens, direction, beta) / p.sum().clamp_min(torch.finfo(tokens.dtype).tiny)
