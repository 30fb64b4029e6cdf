"""ToMe: Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023.

Bipartite soft matching (section 3): tokens are put into two sets by turns; every token of the first set is matched
with the most similar one of the second, by the cosine of their keys, averaged over the heads; the r most similar
pairs are merged, by averages that count what tokens already stand for; attention counts it too (proportional
attention), softmax(Q K^T / sqrt(d) + log s).

Departures: the tokens left are as many as LTM leaves, unless ``r`` is given, the paper's form. A block takes away at
most half of its tokens; where LTM takes more, since it rounds to whole grids, the blocks behind make it good. Where
there are no keys of all tokens, in the windows of backbones that keep a grid, the tokens themselves take their place.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .grids import as_number
from .sequences import Attention, History, SequenceMerger, take


class Matching(NamedTuple):
    """Which of the tokens at even places merge, and with which of those at odd places, each counted among its kind."""
    kept: Tensor  # (B, K), the even ones that stay
    merged: Tensor  # (B, r), the even ones that merge
    into: Tensor  # (B, r), with which of the odd ones
    tokens: int  # N, how many there are

    def combine(self, x: Tensor, reduce: str = 'sum') -> Tensor:
        """Tokens, those that merge combined ('sum' or 'amax') with those at odd places: (B, N, C) to (B, N - r, C)."""
        merged = take(x[:, ::2], self.merged)
        odd = x[:, 1::2].scatter_reduce(1, self.into[..., None].expand_as(merged), merged, reduce)
        return torch.cat((take(x[:, ::2], self.kept), odd), 1)

    def average(self, x: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
        """Means of tokens, (B, N, C), that count as many as they stand for, (B, N), and what the means stand for."""
        total = self.combine(sizes[..., None])
        return self.combine(x * sizes[..., None].to(x.dtype)) / total.to(x.dtype), total[..., 0]

    def drop(self, x: Tensor) -> Tensor:
        """Tokens without those that would merge: (B, N, C) to (B, N - r, C)."""
        return torch.cat((take(x[:, ::2], self.kept), x[:, 1::2]), 1)

    def indices(self) -> Tensor:
        """Where each of the tokens, (B, N), goes: those kept come first, then those at odd places."""
        batch, count = self.kept.shape[0], as_number(self.kept.shape[1])
        places = torch.arange(self.tokens - as_number(self.merged.shape[1]), device=self.kept.device).expand(batch, -1)
        indices = self.kept.new_empty(batch, self.tokens)
        indices[:, 1::2] = places[:, count:]
        indices[:, ::2] = indices[:, ::2].scatter(1, self.kept, places[:, :count]).scatter(
            1, self.merged, count + self.into)
        return indices


@torch.no_grad()
def bipartite_matching(metric: Tensor, r: int, class_token: bool = False) -> Matching:
    """The r most similar pairs, by (B, N, d) features, of a token at an even and a token at an odd place.

    With a class token, which has no partner, the tokens that stay keep their order; else they come by falling
    similarity. r is at most half of the other tokens.
    """
    metric = F.normalize(metric, dim=-1)
    similarity = metric[:, ::2] @ metric[:, 1::2].transpose(-2, -1)
    if class_token:
        similarity[:, 0] = -math.inf
    best, partners = similarity.max(-1)
    order = best.argsort(-1, descending=True)
    merged, kept = order[:, :r], order[:, r:]
    if class_token:
        kept = kept.sort(-1).values
    return Matching(kept, merged, partners.gather(1, merged), as_number(metric.shape[1]))


class ToMe(SequenceMerger):
    """Merges the most similar tokens of one block, at most half of them, even if more are to leave.

    With ``proportional`` attention counts how many tokens each token stands for; for the others see
    :class:`SequenceMerger`.
    """
    by_tokens = True
    least_share = 0.5

    def __init__(self, *args, proportional: bool = True, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.proportional = proportional

    def forward(self, tokens: Tensor, attention: Attention | None, history: History, keep: int,
                class_token: bool) -> tuple[Tensor, History]:
        matching = self.match(tokens if attention is None else attention.keys.mean(1), keep, class_token)
        if matching is None:
            return tokens, history
        tokens, sizes = self.fuse(tokens, history.sizes, matching)
        return tokens, history.moved(matching.indices, sizes, sizes if self.proportional else None)

    def match(self, metric: Tensor, keep: int, class_token: bool = False) -> Matching | None:
        """The pairs that merge to leave ``keep`` tokens, or half of them if these are more; None if none must."""
        count = as_number(metric.shape[1]) - class_token
        r = min(count - keep, count // 2)
        return bipartite_matching(metric, r, class_token) if r > 0 else None

    def fuse(self, tokens: Tensor, sizes: Tensor, matching: Matching) -> tuple[Tensor, Tensor]:
        """Tokens, (B, N, C), after merging, and how many each of them stands for, (B, N - r)."""
        return matching.average(tokens, sizes)
