"""Classes as clusters: centroids, the soft assignment phi of a feature to them, and Q(a|y).

Wang and Yang, "Efficient Visual Transformer by Learnable Token Merging", arXiv 2407.15219, section 3.2.
Departures: targets may be distributions, classes without a sample take no part instead of dividing by zero,
and features may be L2-normalised first, as in the authors' public training script.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .inputs import check_batch, check_rows, target_distribution
from .precision import full_precision


@full_precision
def class_centroids(features: Tensor, targets: Tensor, num_classes: int | None = None) -> Tensor:
    """Centroid of each class, c_a = sum_i p_i(a) F_i / sum_i p_i(a) (section 3.2).

    Args:
        features (Tensor): (n, ...).
        targets (Tensor): (n,) or (n, C).
        num_classes (int, optional): C. Defaults to what the targets imply.

    Returns:
        Tensor: (C, ...). The row of a class without a sample is zero: keep it out of phi with
        ``present=target_distribution(targets, C).sum(0) > 0``.
    """
    check_batch('features', features)
    p = target_distribution(targets, num_classes).to(features.dtype)
    check_rows(features=features, targets=p)
    counts = p.sum(0).clamp_min(torch.finfo(p.dtype).tiny)
    return (p.T @ features.flatten(1) / counts[:, None]).unflatten(1, features.shape[1:])


@full_precision
def soft_assignment(features: Tensor, centroids: Tensor, beta: float = 1.0, normalize: bool = False,
                    present: Tensor | None = None) -> Tensor:
    """Soft assignment of features to classes, phi(F_i, a) = softmax_a(-beta ||F_i - c_a||^2) (section 3.2).

    Distances come from one matrix product, 2 <F_i, c_a> - ||c_a||^2, with ||F_i||^2 left out because the softmax does
    not see it. Expanded like that they would lose all digits where features share a large offset, so the mean
    centroid is subtracted from both sides first. (TF32 products, off by default in PyTorch, have an eps of 1e-3.)

    Args:
        features (Tensor): (n, ...).
        centroids (Tensor): (C, ...).
        beta (float): Inverse temperature. Defaults to 1.0, as in the paper.
        normalize (bool): L2-normalise every (flattened) feature and centroid first. Defaults to False.
        present (Tensor, optional): (C,) bool. Classes that take part; phi is exactly 0 for the others. Defaults to all.

    Returns:
        Tensor: (n, C). Rows sum to one, or to zero if no class takes part.
    """
    check_batch('features', features)
    if features.shape[1:] != centroids.shape[1:]:
        raise ValueError(f'features of shape {tuple(features.shape)} do not match centroids of shape '
                         f'{tuple(centroids.shape)}')
    features, centroids = features.flatten(1), centroids.flatten(1)
    if present is None:
        present = torch.ones(centroids.shape[0], dtype=torch.bool, device=centroids.device)
    if normalize:
        features, centroids = F.normalize(features), F.normalize(centroids)
    reference = present.to(centroids.dtype) @ centroids / present.sum().clamp_min(1)
    features, centroids = features - reference, centroids - reference
    bias = class_bias(centroids.norm(dim=1).square(), beta, present)
    return assign_by_products(2 * beta * features @ centroids.T, bias, present)


def class_bias(squared_norms: Tensor, beta: float, present: Tensor) -> Tensor:
    """-beta ||c_a||^2, (C,), so low for a class that takes no part that its phi is 0."""
    # Not -inf: a row of -inf alone would become NaN. Half the lowest number leaves room for a product.
    return (-beta * squared_norms).masked_fill(~present, torch.finfo(squared_norms.dtype).min / 2)


def assign_by_products(products: Tensor, bias: Tensor, present: Tensor) -> Tensor:
    """phi, (n, C), from 2 beta <F_i, c_a> (n, C) and a :func:`class_bias` (C,)."""
    return (products + bias).softmax(1) * present


@full_precision
def conditional_assignment(phi: Tensor, targets: Tensor) -> Tensor:
    """Q(a|y) = sum_i phi(X~_i, a) p_i(y) / sum_i p_i(y) (Eq. 5 of the supplement), from phi (n, C) and targets.

    (C, C), entry (a, y); every column sums to one.
    """
    p = target_distribution(targets, phi.shape[1]).to(phi.dtype)
    check_rows(phi=phi, targets=p)
    return conditional_from_joint(phi.T @ p)


def conditional_from_joint(joint: Tensor) -> Tensor:
    """Columns of a non-negative (C, C) matrix of sums, divided by their sums.

    An empty column, a class y without a sample, becomes uniform: then Q stays a conditional distribution,
    Theorem 3.1 holds for any targets, and such a class gives the mask gradient no direction.
    """
    totals = joint.sum(0)
    uniform = joint.new_tensor(1 / joint.shape[0])
    return torch.where(totals > 0, joint / totals.clamp_min(torch.finfo(joint.dtype).tiny), uniform)
