"""The layers of a backbone whose tokens are measured, with any merger or with none."""

import re
from typing import Any

from torch import Tensor, nn

from mmltm.merging.ltm import window_tokens
from mmltm.merging.sequences import Detour

from .way_back import WayBack, is_merger, keeps_grid, sequence_map

#: Types of modules by which a vanilla block's tokens are known, at the place where a merger would take them:
#: MLPs of transformers, called with the tokens as ``identity``, and attentions that return them, shortcut
#: included.
BLOCKS = ('FFN', 'SwiGLUFFN', 'SwiGLUFFNFused', 'MultiScaleLinearAttention')


def find_layers(model: nn.Module, pattern: str | None = None) -> dict[str, nn.Module]:
    """Modules to measure, by name, in the order of the model.

    Args:
        model (nn.Module): With mergers, or vanilla.
        pattern (str, optional): Regular expression that the whole name of a module must match. Defaults to
            all mergers, or, if there are none, to the modules of the types :data:`BLOCKS` in
            ``model.backbone``.

    Raises:
        ValueError: There are none.
    """
    modules = dict(model.named_modules())
    if pattern is not None:
        found = {name: module for name, module in modules.items() if re.fullmatch(pattern, name)}
        if not found:
            raise ValueError(f'no module has a name like {pattern!r}')
        return found
    # What merges behind a detour is called once a window, and only the detour knows the map.
    found = {name: module for name, module in modules.items()
             if is_merger(module) and not isinstance(modules.get(name.rpartition('.')[0]), Detour)}
    found = found or {name: module for name, module in modules.items()
                      if type(module).__name__ in BLOCKS and name.startswith('backbone.')}
    if not found:
        raise ValueError(f'no token merger, and no module of the types {", ".join(BLOCKS)} in the backbone: '
                         'name modules that return tokens by a regular expression, the option `layers`')
    return found


def layer_tokens(module: nn.Module, args: tuple, kwargs: dict, output: Any, batch: int, window: int,
                 way_back: WayBack, restored: bool = False) -> tuple[Tensor, Tensor]:
    """Tokens of a layer before and after merging, as means over all windows of the map.

    Args:
        module (nn.Module): A merger; or a module that merges nothing and is called with tokens as ``identity`` or
            returns them, (B, C, H, W) or (B, N, C).
        args (tuple): Of its call.
        kwargs (dict): Of its call.
        output: Of its call.
        batch (int): B. Sequences may come in groups, (B A, N, C), whose channels are one token's (MobileViT).
        window (int): Side of the window for modules that have none of their own.
        way_back (WayBack): Of the model.
        restored (bool): Bring the tokens of every merger back to the full grid, in windows of side ``window``, not
            only those of mergers that keep no grid. Defaults to False.

    Returns:
        tuple[Tensor]: X (B, N, D) and X~ (B, P, D), float32; P = N where tokens are brought back.

    Raises:
        ValueError: A sequence that is no square grid.
    """
    source, target = (getattr(module, name, (window, window)) for name in ('source', 'target'))
    if not is_merger(module):
        tokens = window_tokens(sequence_map(kwargs.get('identity', output), batch), source)
        return tokens, tokens
    if restored or not keeps_grid(module):
        before, after = way_back.maps(module, args, output, batch)
        return window_tokens(before, (window, window)), window_tokens(after, (window, window))
    full, operator = args[0], output[0]
    tokens = window_tokens(full, source)
    return tokens, tokens if operator is None else window_tokens(operator.merge(full), target)
