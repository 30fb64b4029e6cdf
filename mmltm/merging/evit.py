"""EViT: Liang et al., "Not All Patches are What You Need: Expediting Vision Transformers via Token Reorganizations",
ICLR 2022.

Between attention and MLP of a block the patch tokens that the class token attends to most, on average over the heads,
are kept; the others become one token, sum_i a_i x_i over their attention a_i (sections 3.2 and 3.3), which comes last
and from then on is a token like any other.

Departures: the number of tokens left, the fused one included, is that which LTM leaves, unless ``r`` is given, where
the paper keeps a share of the patches in three of twelve blocks (which a list of ratios says too). Tokens that are kept
stay in their order rather than in that of their attention, which makes no difference to a transformer.
"""

import torch
from torch import Tensor

from .grids import as_number
from .sequences import Attention, History, SequenceMerger, take


def class_attention(attention: Attention) -> Tensor:
    """How much the class token attends to each patch token, the mean over heads, (B, N - 1)."""
    queries, keys = attention.queries[:, :, :1], attention.keys
    logits = queries @ keys.transpose(-2, -1) * queries.shape[-1]**-0.5
    return logits.softmax(-1)[:, :, 0, 1:].mean(1)


class EViT(SequenceMerger):
    """Keeps the tokens that the class token attends to, and fuses the others into one."""
    needs_class_token = True

    def forward(self, tokens: Tensor, attention: Attention | None, history: History, keep: int,
                class_token: bool = True) -> tuple[Tensor, History]:
        count = as_number(tokens.shape[1]) - 1
        if keep >= count:
            return tokens, history
        assert attention is not None  # it is no merger by tokens alone
        weights = class_attention(attention)
        order = weights.detach().argsort(-1, descending=True)
        kept, others = order[:, :keep - 1].sort(-1).values, order[:, keep - 1:]
        patches = tokens[:, 1:]
        fused = (take(patches, others) * weights.gather(1, others)[..., None].to(tokens.dtype)).sum(1, keepdim=True)
        places = torch.arange(keep, device=tokens.device).expand(tokens.shape[0], -1)
        indices = torch.full_like(weights, keep - 1, dtype=torch.int64).scatter(1, kept, places[:, :-1])
        indices = torch.cat((torch.zeros_like(indices[:, :1]), indices + 1), 1)
        sizes = torch.zeros_like(history.sizes[:, :keep + 1]).scatter_add(1, indices, history.sizes)
        return torch.cat((tokens[:, :1], take(patches, kept), fused), 1), history.moved(lambda: indices, sizes, None)
