"""Masks that follow an image: soft k-means that begins at a mask which is the same for all images.

Tokens z_i (N of them, compared in few channels) and a mask G (N, P) of one window, every column of which sums to 1. The
centres are merged tokens, c = G^T z; every token then divides itself between the merged tokens,

    A_ip = G_ip exp(affinity cos(z_i, c_p)) / sum over p' of the same,    G'_ip = A_ip / sum over i' of A_i'p,

and again with A for the centres. G falls off with distance, so the grid stays, and with it what convolutions need,
while neighbours that look alike go together, which no mask that is the same for all images can know.

Source: super token sampling (Huang et al., "Vision Transformer with Super Token Sampling", CVPR 2023, arXiv 2211.11167,
section 3.2), after soft superpixels (Jampani et al., "Superpixel Sampling Networks", ECCV 2018, arXiv 1807.10174).
There 9 super tokens are in reach of a token, all alike, and tokens are compared in all channels; here a learnt mask
says how far which place is, and what tokens are compared by is learnt, too.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmltm.ib.precision import autocast_off

from .grids import Grid
from .learnt_mask import LearntMask
from .masks import normalize_mask
from .windowed import WindowedMerge

#: Exponentials of twice this do not vanish beside each other.
MAX_AFFINITY = 40.0
_TINY = 1e-30


def directions(channels: int, count: int, seed: int = 0) -> Tensor:
    """Random orthogonal directions, (channels, count), of unit mean square: what tokens are compared by at first.

    A random projection keeps angles well enough (Johnson and Lindenstrauss), and at this size learns as logits do.
    """
    count = min(count, channels)
    # A CPU generator cannot draw where torch.device('meta') makes the tensors.
    with torch.device('cpu'):
        found = torch.linalg.qr(torch.randn(channels, count, generator=torch.Generator().manual_seed(seed)))[0]
        return found * channels ** 0.5


def soft_kmeans(mask: Tensor, tokens: Tensor, steps: int, affinity: float) -> tuple[Tensor, Tensor]:
    """The mask of each window, and the way back, from one for all; the gradient takes centres as given.

    Args:
        mask (Tensor): G, (N, P); entries positive, every column sums to 1.
        tokens (Tensor): (B, T, N, d), of T windows an image.
        steps (int): How often tokens divide themselves.
        affinity (float): Factor of the cosine similarity, in [0, 40].

    Returns:
        tuple[Tensor]: G' and A, each (B, T, N, P).
    """
    unit, weights, shares = affinity * F.normalize(tokens, dim=-1), mask.clamp(min=_TINY).log(), mask
    for _ in range(steps):
        # Of sums: only where they point counts. A gradient through that would have no bound where tokens cancel out.
        centres = F.normalize(shares.detach().mT @ tokens.detach(), dim=-1)
        shares = (unit @ centres.mT + weights).softmax(-1)
    return shares / shares.sum(-2, keepdim=True).clamp(min=_TINY), shares


class KMeansLTM(LearntMask):
    """A learnt mask that each image moves towards its own tokens; not in the paper.

    There is no binary mask: the logits learn by how much a token is drawn to a place. What tokens are compared by,
    ``directions``, (D, affinity_dim), is a parameter, too.

    Args:
        kmeans_steps (int): How often tokens divide themselves anew between the merged tokens. Defaults to 3.
        affinity (float): Factor of the cosine similarity in that, in [0, 40]. Defaults to 20.0.
        affinity_dim (int): Channels in which tokens are compared. Defaults to 16.
        *args, **kwargs: See :class:`~mmltm.merging.learnt_mask.LearntMask`.
    """

    def __init__(self, *args, kmeans_steps: int = 3, affinity: float = 20.0, affinity_dim: int = 16,
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if kmeans_steps < 1 or affinity_dim < 1 or not 0 <= affinity <= MAX_AFFINITY:
            raise ValueError('kmeans_steps and affinity_dim must be positive, and affinity lie in '
                             f'[0, {MAX_AFFINITY:g}], got {kmeans_steps}, {affinity_dim} and {affinity}')
        self.kmeans_steps, self.affinity = kmeans_steps, affinity
        self.directions = nn.Parameter(directions(self.embed_dims, affinity_dim))

    def operator(self, x: Tensor) -> WindowedMerge:
        operator = super().operator(x)
        with autocast_off(x):
            tokens = x.detach().flatten(1, -3).movedim(1, -1).float() @ self.directions.float()
            # What all tokens of an image have in common says nothing of which are alike.
            tokens = tokens - tokens.mean((1, 2), keepdim=True)
            return operator.with_matrices([
                soft_kmeans(region.merge, windows, self.kmeans_steps, self.affinity)
                for region, windows in zip(operator.regions, operator.cut(tokens))])

    def matrices(self, source: Grid, target: Grid, steps: Any = None) -> tuple[Tensor, Tensor]:
        mask = self.mask(source, target)
        return mask, mask

    def mask(self, source: Grid, target: Grid, steps: Any = None, sample: bool = False) -> Tensor:
        scores = self.scores(source, target) + self.learnt(source, target)
        return normalize_mask(torch.ones_like(scores), scores)
