"""What backbones with token merging share: OpenMMLab's conventions, and the halves of an encoder layer."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.utils.checkpoint as cp
from torch import Tensor

from mmltm.merging.base import MergeOperator
from mmltm.merging.grids import Grid
from mmltm.merging.masks import normalize_mask
from mmltm.merging.sequences import Attention, History, SequenceMerger

#: Whether a stage returns to its full grid, or lets the smaller map flow on.
RESTORES = ('stage', 'none')


def check_restore(restore: str) -> str:
    """``restore`` if it is known.

    Raises:
        ValueError: Otherwise.
    """
    if restore not in RESTORES:
        raise ValueError(f'restore must be one of {RESTORES}, got {restore!r}')
    return restore


class MergedMap:
    """The merges that a map has undergone since all its tokens were there.

    Args:
        carry (Any): What the last merger of the stage before has handed on. Defaults to None.

    Attributes:
        carry (Any): What the last merger has handed on.
        merges (list[tuple]): The operator of each merge, in order, and the map before and after it.
    """

    def __init__(self, carry: Any = None) -> None:
        self.carry = carry
        self.merges: list[tuple[MergeOperator, Tensor, Tensor]] = []

    def merge(self, merger: nn.Module, x: Tensor, groups: int | None = None) -> Tensor:
        """The map after a block's merger, or as it is where the block merges nothing.

        Args:
            merger (nn.Module): A merger that keeps the grid, or an identity.
            x (Tensor): (B, C, H, W).
            groups (int, optional): How many neighbouring maps belong to one image, whose tokens merge alike.
        """
        if isinstance(merger, nn.Identity):
            return x
        operator, self.carry = merger(x if groups is None else x.unflatten(0, (-1, groups)), self.carry)
        if operator is None:
            return x
        merged = operator.merge(x)
        self.merges.append((operator, x, merged))
        return merged

    def restore(self, x: Tensor) -> Tensor:
        """The map with all its tokens again: those before merging, and what the merged ones have gained since.

        Args:
            x (Tensor): (B, C, h, w), after the last merge and what came behind it.

        Returns:
            Tensor: (B, C, H, W).
        """
        for operator, full, merged in reversed(self.merges):
            x = operator.restore(full, merged, x)
        return x


def check_indices(out_indices: int | Sequence[int], count: int) -> tuple[int, ...]:
    """Indices of ``count`` outputs, negative ones counted from the end.

    Raises:
        ValueError: If there is none, or one is out of range.
    """
    indices = [out_indices] if isinstance(out_indices, int) else list(out_indices)
    if not indices:
        raise ValueError('out_indices is empty')
    for index in indices:
        if not -count <= index < count:
            raise ValueError(f'out_indices must lie in [{-count}, {count - 1}], got {index}')
    return tuple(index % count for index in indices)


def freeze(modules: Iterable[nn.Module]) -> None:
    """No gradient for these modules, and evaluation mode."""
    for module in modules:
        module.eval()
        module.requires_grad_(False)


def run(function: Callable[[Tensor], Tensor], x: Tensor, with_cp: bool) -> Tensor:
    """Call ``function``, its activations recomputed in the backward pass if so asked."""
    if with_cp and x.requires_grad:
        return cp.checkpoint(function, x, use_reentrant=False)
    return function(x)


def attend(layer: nn.Module, x: Tensor) -> Tensor:
    """First half of mmpretrain's ``TransformerEncoderLayer``: attention and its residual."""
    return x + layer.attn(layer.ln1(x))


def attend_weighted(layer: nn.Module, x: Tensor, weights: Tensor | None,
                    explicit: bool) -> tuple[Tensor, Attention]:
    """As :func:`attend`, but tokens may count more or less than one, and what attention knows is handed out.

    Without weights it is :func:`attend`, bit for bit.

    Args:
        layer (nn.Module): mmpretrain's ``TransformerEncoderLayer``.
        x (Tensor): (B, N, C).
        weights (Tensor, optional): (B, N), by which exponentials are multiplied before they are normalised: what a
            token counts, 0 if it is masked. Weights with a gradient get theirs.
        explicit (bool): Compute all scores, rather than fused attention, and hand them out.

    Returns:
        tuple: Tokens, (B, N, C), and the :class:`Attention`.
    """
    attn = layer.attn
    queries, keys, values = attn.qkv(layer.ln1(x)).unflatten(-1, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
    drop, scale = attn.attn_drop if attn.training else 0., queries.shape[-1]**-0.5
    bias = None if weights is None else weights.log()[:, None, None].to(queries)
    scores = None
    if weights is not None and weights.requires_grad:
        # The logarithm has no gradient at 0. What a masked token would count if it took part has no bound, nor has
        # the gradient of its weight, which says just that: here it counts no more than the strongest that does.
        support, logits = weights[:, None, :, None].to(queries), keys @ queries.mT * scale
        strongest = logits.detach().masked_fill(support <= 0, -math.inf).amax(-2, keepdim=True)
        logits = torch.where(support > 0, logits, torch.minimum(logits, strongest))
        scores = normalize_mask(support, logits).mT
    elif explicit:
        logits = queries @ keys.mT * scale
        scores = (logits if bias is None else logits + bias).softmax(-1)
    if scores is None:
        update = attn.scaled_dot_product_attention(queries, keys, values, attn_mask=bias, dropout_p=drop)
    else:
        update = F.dropout(scores, drop) @ values
    update = attn.proj(update.transpose(1, 2).flatten(2))
    return x + attn.out_drop(attn.gamma1(attn.proj_drop(update))), Attention(queries, keys, scores)


def feed_forward(layer: nn.Module, x: Tensor) -> Tensor:
    """Second half of mmpretrain's ``TransformerEncoderLayer``: the MLP and its residual."""
    return layer.ffn(layer.ln2(x), identity=x)


def encode_sequence(layer: nn.Module, merger: nn.Module, x: Tensor, history: History, nominal: Grid,
                    class_token: bool, with_cp: bool) -> tuple[Tensor, History, Grid]:
    """A whole encoder layer, between whose halves a merger that keeps no grid may take tokens away.

    Args:
        layer (nn.Module): mmpretrain's ``TransformerEncoderLayer``.
        merger (nn.Module): A :class:`SequenceMerger`, or anything else where the layer merges nothing.
        x (Tensor): (B, N, C).
        history (History): What has become of the tokens so far.
        nominal (tuple): The grid that as many tokens would have as were to be left so far.
        class_token (bool): Whether the first token is a class token.
        with_cp (bool): Recompute activations in the backward pass to save memory.

    Returns:
        tuple: Tokens, (B, N', C), and their history and nominal grid.
    """
    merges, weights = isinstance(merger, SequenceMerger) and merger.active, history.weights
    x, attention = run(lambda x: attend_weighted(layer, x, weights, merges and merger.explicit), x, with_cp)
    if merges:
        keep, nominal = merger.remaining(x.shape[1] - class_token, nominal)
        x, history = merger(x, attention, history, keep, class_token)
    return run(lambda x: feed_forward(layer, x), x, with_cp), history, nominal
