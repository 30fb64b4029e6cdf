"""The layers of a backbone whose tokens are measured, with any merger or with none.

Tokens of merging blocks can be brought back to the full grid of their stage, where those of all mergers compare:
what leaves a merger that keeps no grid does not mean the same in every image; its copies in all the places that went
into it do. Of mergers that keep a grid the way back of their operators does the same.
"""

import math
import re
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from mmltm.errors import UserError
from mmltm.merging.base import GridMerger
from mmltm.merging.grids import Grid, map_to_tokens, tokens_to_map
from mmltm.merging.sequences import SequenceMerger
from mmltm.merging.trace import MergeCall, mergers_of

#: Types of modules by which a vanilla block's tokens are known, at the place where a merger would take them: MLPs of
#: transformers, called with the tokens as ``identity``, and attentions that return them, shortcut included.
BLOCKS = ('FFN', 'SwiGLUFFN', 'SwiGLUFFNFused', 'MultiScaleLinearAttention')


def find_layers(model: nn.Module, pattern: str | None = None) -> dict[str, nn.Module]:
    """Modules to measure, by name, in the order of the model; an error if there are none.

    Their whole names match the regular expression ``pattern``. Without it they are all mergers, or, if there are none,
    the modules of the types :data:`BLOCKS` in ``model.backbone``.
    """
    modules = dict(model.named_modules())
    if pattern is not None:
        found = {name: module for name, module in modules.items() if re.fullmatch(pattern, name)}
        if not found:
            raise UserError(f'no module has a name like {pattern!r}')
        return found
    found = {**mergers_of(model)} or {name: module for name, module in modules.items()
                                      if type(module).__name__ in BLOCKS and name.startswith('backbone.')}
    if not found:
        raise UserError(f'no token merger, and no module of the types {", ".join(BLOCKS)} in the backbone: '
                        'name modules that return tokens by a regular expression, the option `layers`')
    return found


def block_tokens(kwargs: dict, output: Any, batch: int, window: int) -> Tensor:
    """Tokens of a module that merges nothing, (B, N, D), as means over all windows of the map with that side.

    They are ``identity`` of its call's ``kwargs`` where there is one, else its ``output``: (B, C, H, W), (B, N, C), or
    groups of sequences, (B A, N, C), whose channels are one token's (MobileViT).
    """
    return window_tokens(sequence_map(kwargs.get('identity', output), batch), (window, window))


def merger_tokens(call: MergeCall, batch: int, window: int, restored: bool = False) -> tuple[Tensor, Tensor]:
    """Tokens before and after a merger, X (B, N, D) and X~ (B, P, D), float32, as means over all windows of the map.

    Tokens of mergers that keep no grid are brought back to the full grid, whose windows have the side ``window``, and
    with ``restored`` those of all mergers; P = N then.
    """
    if restored or not call.merger.keeps_grid:
        before, after = maps_there_and_back(call, batch)
        return window_tokens(before, (window, window)), window_tokens(after, (window, window))
    assert isinstance(call.merger, GridMerger)
    full, operator = call.arguments['x'], call.output[0]
    tokens = window_tokens(full, call.merger.source)
    return tokens, tokens if operator is None else window_tokens(operator.merge(full), call.merger.target)


def maps_there_and_back(call: MergeCall, batch: int) -> tuple[Tensor, Tensor]:
    """What entered a merger, tracked where it keeps no grid, and what left it: two maps on the full grid.

    (B, ..., C, H, W) both. Tokens that a merger has dropped are there as they were when they left, as the backbones
    return them.
    """
    if isinstance(call.merger, SequenceMerger):
        (merged, after), tokens, history = call.output, call.arguments['tokens'], call.arguments['history']
        return sequence_map(history.restore(tokens), batch), sequence_map(after.restore(merged), batch)
    x, operator = call.arguments['x'], call.output[0]
    back = x
    if operator is not None:
        # Detours are for sequences, whose channels come last in memory.
        tokens = operator.detour(map_to_tokens(x.flatten(0, -4)).contiguous(), lambda merged: merged)
        back = tokens_to_map(tokens, x.shape[-2:]).unflatten(0, x.shape[:-3])
    for earlier in reversed(call.before):
        x, back = earlier.unmerge(x), earlier.unmerge(back)
    return x, back


def sequence_map(tokens: Tensor, batch: int) -> Tensor:
    """Tokens (B A, N, C), A sequences an image, as a map, (B, A, C, H, W); what is one is returned as it is.

    The sequences are of a square grid and up to two class tokens before it; other tokens are an error.
    """
    if tokens.ndim == 4:
        return tokens
    count = tokens.shape[1]
    side = math.isqrt(count)
    if count - side**2 > 2:
        raise UserError(f'{count} tokens are no square grid: evaluate on square images')
    maps = tokens[:, count - side**2:].mT.unflatten(2, (side, side))
    return maps.unflatten(0, (batch, -1))


def window_tokens(x: Tensor, window: Grid) -> Tensor:
    """Tokens of the mean of all whole windows (h, w) of a map (B, ..., C, H, W); a smaller map is resized to one.

    They are (B, h w, D), float32, with D all channels of all ``...``.
    """
    (h, w), (height, width) = window, x.shape[-2:]
    x = x.float()
    if height < h or width < w:
        size = (max(height, h), max(width, w))
        maps = F.interpolate(x.flatten(0, -4), size=size, mode='bilinear', align_corners=False)
        x, (height, width) = maps.unflatten(0, x.shape[:-3]), size
    rows, cols = height // h, width // w
    x = x[..., :rows * h, :cols * w].unflatten(-1, (cols, w)).unflatten(-3, (rows, h))
    return x.mean((-4, -2)).flatten(1, -3).flatten(2).mT
