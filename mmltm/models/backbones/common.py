"""What backbones with token merging share: OpenMMLab's conventions, and the halves of an encoder layer."""

from typing import Callable, Iterable, Sequence, Tuple, Union

import torch.nn as nn
import torch.utils.checkpoint as cp
from torch import Tensor

RESTORES = ('stage', 'none')


def check_restore(restore: str) -> str:
    """``restore`` if it is known.

    Raises:
        ValueError: Otherwise.
    """
    if restore not in RESTORES:
        raise ValueError(f'restore must be one of {RESTORES}, got {restore!r}')
    return restore


def check_indices(out_indices: Union[int, Sequence[int]], count: int) -> Tuple[int, ...]:
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


def feed_forward(layer: nn.Module, x: Tensor) -> Tensor:
    """Second half of mmpretrain's ``TransformerEncoderLayer``: the MLP and its residual."""
    return layer.ffn(layer.ln2(x), identity=x)
