"""Masks that follow an image: soft k-means within the support of a mask that is the same for all images.

Tokens z_i (N of them, compared in few channels) and a mask G (N, P), both of one window. The centres are merged tokens,
c = G^T z; every token then divides itself between the merged tokens that the mask lets it go into,

    A_ip = G_ip exp(affinity cos(z_i, c_p)) / sum over p' of the same,    G'_ip = A_ip / sum over i' of A_i'p,

and again with G' for the centres. So the grid stays, and with it what convolutions need, while neighbours that look
alike go together, which no mask that is the same for all images can know.

Source: super token sampling (Huang et al., "Vision Transformer with Super Token Sampling", CVPR 2023, arXiv 2211.11167,
section 3.2), after soft superpixels (Jampani et al., "Superpixel Sampling Networks", ECCV 2018, arXiv 1807.10174). There
the mask is the distance on the grid, and 9 super tokens are in reach of a token; here a learnt mask says which, and by
how much.
"""

from typing import Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

#: Exponentials of no more than this neither overflow nor vanish beside each other.
MAX_AFFINITY = 40.0
_TINY = 1e-30


def directions(channels: int, count: int, seed: int = 0) -> Tensor:
    """Random orthonormal directions, (channels, count): what tokens are compared by.

    A random projection keeps angles well enough for it (Johnson and Lindenstrauss), and needs no data.
    """
    count = min(count, channels)
    # A CPU generator cannot draw where torch.device('meta') makes the tensors.
    with torch.device('cpu'):
        return torch.linalg.qr(torch.randn(channels, count, generator=torch.Generator().manual_seed(seed)))[0]


def soft_kmeans(mask: Tensor, tokens: Tensor, steps: int, affinity: float) -> Tuple[Tensor, Tensor]:
    """The mask of each image, and the way back, from one for all.

    Args:
        mask (Tensor): G, (N, P), or one an image, (B, N, P); entries not negative, every column sums to 1.
        tokens (Tensor): (B, T, N, d), of T windows an image.
        steps (int): How often tokens divide themselves.
        affinity (float): Factor of the cosine similarity, in [0, 40].

    Returns:
        tuple[Tensor]: G' and A, each (B, T, N, P). A row of A sums to 1, or to 0 for a token that the mask puts nowhere.
    """
    mask = mask[:, None] if mask.dim() == 3 else mask
    unit, shares = affinity * F.normalize(tokens, dim=-1), mask
    for _ in range(steps):
        centres = F.normalize(shares.mT @ tokens, dim=-1)  # of sums: only where they point counts
        shares = mask * (unit @ centres.mT).exp()
        shares = shares / shares.sum(-1, keepdim=True).clamp(min=_TINY)
    return shares / shares.sum(-2, keepdim=True).clamp(min=_TINY), shares
