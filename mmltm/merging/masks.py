"""Masks: binary ones that learn, the normalised mask G of the paper's Eq. 4, and the way back from it."""

import torch
from torch import Tensor


def gumbel_sigmoid(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Binary sample, P(1) = sigmoid(logits), with the gradient of a sigmoid of some temperature."""
    uniform = torch.rand_like(logits).clamp(torch.finfo(logits.dtype).tiny, 1 - torch.finfo(logits.dtype).eps)
    logits = logits + uniform.log() - (-uniform).log1p()
    soft = (logits / temperature).sigmoid()
    # In this order the value is exactly 0 or 1.
    return (soft > 0.5).to(soft) + (soft - soft.detach())


def keep_largest(support: Tensor, logits: Tensor) -> Tensor:
    """Set the entry of the largest logit of each column, so that no column is empty; gradients pass unchanged."""
    largest = torch.zeros_like(support).scatter_(-2, logits.argmax(-2, keepdim=True), 1.0)
    return support + largest * (1 - support.detach())


def normalize_mask(support: Tensor, scores: Tensor) -> Tensor:
    """Softmax of ``scores`` over the sources, restricted to ``support`` (paper, Eq. 4), all (..., N, P).

    ``support`` is of zeros and ones, at least a one in every column; every column of the result sums to 1.
    """
    # Entries off the support must not decide the shift, or a column could underflow to zero; a column's largest
    # entry on the support is then exp(0) = 1. The shift itself carries no gradient.
    shift = scores.detach().masked_fill(support.detach() <= 0, float('-inf')).amax(-2, keepdim=True)
    # Entries off the support can exceed the shift; the bound keeps 0 * inf out of the product.
    weights = support * (scores - shift).clamp(max=30.0).exp()
    return weights / weights.sum(-2, keepdim=True)


def least_squares_inverse(mask: Tensor, eps: float = 1e-3) -> Tensor:
    """U = G (G^T G + eps I)^-1, (..., N, P) as G is, the way back from merged tokens to all tokens.

    G^T U is the identity up to ``eps``, and no gain of U exceeds 1 / (2 sqrt(eps)).
    """
    gram = mask.mT @ mask
    gram = gram + eps * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    # Unlike cholesky, cholesky_ex does not make the host wait for the device; the ridge keeps the factor in existence.
    return torch.cholesky_solve(mask.mT, torch.linalg.cholesky_ex(gram)[0]).mT
