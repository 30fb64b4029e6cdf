"""ToFu: Kim et al., "Token Fusion: Bridging the Gap between Token Pruning and Token Merging", WACV 2024.

Pairs are matched as ToMe matches them. Early blocks answer to the mean of two tokens with something far from the
mean of their answers: there the first token of a pair is dropped and the second one stays as it was. Late blocks
are nearly linear: there pairs merge, to a mean that is given the largest norm of what went into it (MLERP, of any
number of tokens), since a plain mean is shorter than the tokens that the blocks behind have been trained on.

Departures: the paper tells early and late blocks apart by the measured linearity of a model; here it is a share of
the depth, ``prune_until``. A dropped token counts in no mean, nor in proportional attention; on the way back its
place is taken by the token that it was matched with.
"""

import torch.nn.functional as F
from torch import Tensor

from .tome import Matching, ToMe


def mlerp(x: Tensor, sizes: Tensor, matching: Matching) -> tuple[Tensor, Tensor]:
    """Means with the largest norm of their tokens, (B, N - r, C), and what they stand for; see :meth:`ToMe.fuse`."""
    means, sizes = matching.average(x, sizes)
    return F.normalize(means, dim=-1) * matching.combine(x.norm(dim=-1, keepdim=True), 'amax'), sizes


class ToFu(ToMe):
    """Drops one of two similar tokens in early blocks, and merges them in late ones, at most half of the tokens.

    ``prune_until``, in [0, 1], is the share of the blocks, counted from the first, that drop tokens; for the others see
    :class:`ToMe`.
    """

    def __init__(self, *args, prune_until: float = 0.5, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if not 0 <= prune_until <= 1:
            raise ValueError(f'prune_until must be in [0, 1], got {prune_until}')
        self.prunes = self.index < prune_until * self.depth

    def fuse(self, tokens: Tensor, sizes: Tensor, matching: Matching) -> tuple[Tensor, Tensor]:
        if self.prunes:
            return matching.drop(tokens), matching.drop(sizes[..., None])[..., 0]
        return mlerp(tokens, sizes, matching)

    def extra_repr(self) -> str:
        return f'{super().extra_repr()}, prunes={self.prunes}'
