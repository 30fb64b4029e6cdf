"""What backbones with token merging share: OpenMMLab's conventions, and the halves of an encoder layer."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.utils.checkpoint as cp
from mmcv.cnn.bricks import DropPath
from torch import Tensor

from mmltm.merging.base import MergeOperator
from mmltm.merging.grids import Grid, as_number
from mmltm.merging.masks import normalize_mask
from mmltm.merging.sequences import Attention, History, SequenceMerger
from mmltm.models.pretrained import StartsPretrained

#: Whether a stage returns to its full grid, or lets the smaller map flow on.
RESTORES = ('stage', 'none')
Result = TypeVar('Result')


class MergingBackbone(StartsPretrained):
    """Mixin of backbones with token merging on those of mmpretrain, and what their arguments have in common.

    Without ``ratio`` and ``merger``, or at ratio 1.0, a backbone is the vanilla one, bit for bit; otherwise the merging
    parameters alone are missing from a vanilla checkpoint. Arguments not named here are the vanilla backbone's.

    Args:
        ratio (float or Sequence[float], optional): Share of tokens that each block keeps, in (0, 1], or one value a
            block. Short for ``merger=dict(type='LTM', ratio=ratio)``.
        merger (dict, optional): Config of the merger, see :func:`mmltm.models.mergers.build_mergers`.
        preset (str, optional): 'paper': the merger's defaults are those of the LTM paper, see
            :func:`mmltm.models.mergers.merger_config`. Defaults to None.
        restore (str): 'stage' returns every stage to its nominal stride, as dense prediction needs: its tokens and
            what the merged ones have gained; 'none' lets the smaller map flow on and out. Defaults to 'stage'.
        out_indices (int or Sequence[int]): Stages or layers to return, negative ones counted from the end. What is
            behind the last of them is not built.
        frozen_stages (int): Stages or layers up to this one are frozen, with their masks, from construction on; -1:
            none. Defaults to -1.
        with_cp (bool): Recompute activations in the backward pass to save memory. Defaults to False.
        pretrained (str, optional): Classifier to start from, see :class:`~mmltm.models.pretrained.StartsPretrained`.

    Raises:
        ValueError: An argument is out of range, a list of ratios of another length than there are blocks, or a merger
            needs what there is not.
    """

    def _freeze_stages(self) -> None:
        raise NotImplementedError

    def train(self, mode: bool = True) -> 'MergingBackbone':
        super().train(mode)
        self._freeze_stages()
        for module in self.modules():
            if isinstance(module, DropPath):  # mmpretrain gives it a number of numpy's, which breaks compiled graphs
                module.drop_prob = float(module.drop_prob)
        return self


def check_restore(restore: str) -> str:
    if restore not in RESTORES:
        raise ValueError(f'restore must be one of {RESTORES}, got {restore!r}')
    return restore


def check_arch(arch: Any, known: dict[str, Any], other: str) -> Any:
    """The settings of an architecture given by its name, or as they are."""
    if not isinstance(arch, str):
        return arch
    if arch.lower() not in known:
        raise ValueError(f'arch must be one of {tuple(known)} or a {other}, got {arch!r}')
    return known[arch.lower()]


def check_frozen(frozen_stages: int, last: int) -> int:
    if not -1 <= frozen_stages <= last:
        raise ValueError(f'frozen_stages must be -1 (none) to {last}, got {frozen_stages}')
    return frozen_stages


class MergedMap:
    """The merges that a map has undergone since all its tokens were there.

    Attributes:
        carry (Any): What the last merger has handed on, at first that of the stage before.
        merges (list[tuple]): The operator of each merge, in order, and the map before and after it.
    """

    def __init__(self, carry: Any = None) -> None:
        self.carry = carry
        self.merges: list[tuple[MergeOperator, Tensor, Tensor]] = []

    def merge(self, merger: nn.Module, x: Tensor, groups: int | None = None) -> Tensor:
        """The map, (B, C, H, W), after a block's merger that keeps the grid, or as it is if that is an identity.

        ``groups`` says how many neighbouring maps belong to one image, whose tokens merge alike.
        """
        if isinstance(merger, nn.Identity):
            return x
        operator, self.carry = merger(x if groups is None else x.reshape(-1, groups, *x.shape[1:]), self.carry)
        if operator is None:
            return x
        merged = operator.merge(x)
        self.merges.append((operator, x, merged))
        return merged

    def restore(self, x: Tensor) -> Tensor:
        """The map with all its tokens again: those before merging, and what the merged ones have gained since."""
        for operator, full, merged in reversed(self.merges):
            x = operator.restore(full, merged, x)
        return x


def check_indices(out_indices: int | Sequence[int], count: int) -> tuple[int, ...]:
    """Indices of ``count`` outputs, negative ones counted from the end."""
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


def run(function: Callable[[Tensor], Result], x: Tensor, with_cp: bool) -> Result:
    """Call ``function``, its activations recomputed in the backward pass if so asked."""
    if with_cp and x.requires_grad:
        return cp.checkpoint(function, x, use_reentrant=False)
    return function(x)


def attend(layer: Any, x: Tensor) -> Tensor:
    """First half of mmpretrain's ``TransformerEncoderLayer``: attention and its residual."""
    return x + layer.attn(layer.ln1(x))


def attend_weighted(layer: Any, x: Tensor, weights: Tensor | None, explicit: bool) -> tuple[Tensor, Attention]:
    """As :func:`attend`, but tokens may count more or less than one, and what attention knows is handed out.

    Without weights it is :func:`attend`, bit for bit. Exponentials are multiplied by weights, (B, N), before they are
    normalised: what a token counts, 0 if it is masked. Weights with a gradient get theirs. ``explicit`` asks for all
    scores, rather than fused attention.
    """
    attn = layer.attn
    queries, keys, values = attn.qkv(layer.ln1(x)).unflatten(-1, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
    drop, scale = attn.attn_drop if attn.training else 0., queries.shape[-1]**-0.5
    bias = None if weights is None else weights.log()[:, None, None].to(queries)
    scores = None
    if weights is not None and weights.requires_grad:
        # The logarithm has no gradient at 0. What a masked token would count if it took part has no bound, nor has
        # the gradient of its weight, which says just that: here it counts no more than the strongest that does.
        support, logits = weights[:, None, :, None].to(queries), keys @ queries.transpose(-2, -1) * scale
        strongest = logits.detach().masked_fill(support <= 0, -math.inf).amax(-2, keepdim=True)
        logits = torch.where(support > 0, logits, torch.minimum(logits, strongest))
        scores = normalize_mask(support, logits).transpose(-2, -1)
    elif explicit:
        logits = queries @ keys.transpose(-2, -1) * scale
        scores = (logits if bias is None else logits + bias).softmax(-1)
    if scores is None:
        update = attn.scaled_dot_product_attention(queries, keys, values, attn_mask=bias, dropout_p=drop)
    else:
        update = F.dropout(scores, drop) @ values
    update = attn.proj(update.transpose(1, 2).flatten(2))
    return x + attn.out_drop(attn.gamma1(attn.proj_drop(update))), Attention(queries, keys, scores)


def feed_forward(layer: Any, x: Tensor) -> Tensor:
    """Second half of mmpretrain's ``TransformerEncoderLayer``: the MLP and its residual."""
    return layer.ffn(layer.ln2(x), identity=x)


def encode_sequence(layer: Any, merger: nn.Module, x: Tensor, history: History, nominal: Grid,
                    class_token: bool, with_cp: bool) -> tuple[Tensor, History, Grid]:
    """A whole encoder layer, between whose halves a merger that keeps no grid may take tokens away.

    ``nominal`` is the grid that as many tokens would have as were to be left so far. Returns tokens, (B, N', C), and
    their history and nominal grid.
    """
    active = merger if isinstance(merger, SequenceMerger) and merger.active else None
    weights, explicit = history.weights, active is not None and active.explicit
    x, attention = run(lambda x: attend_weighted(layer, x, weights, explicit), x, with_cp)
    if active is not None:
        keep, nominal = active.remaining(as_number(x.shape[1]) - class_token, nominal)
        x, history = active(x, attention, history, keep, class_token)
    return run(partial(feed_forward, layer), x, with_cp), history, nominal
