"""Tokens of merging blocks brought back to the full grid of their stage, where those of all mergers can be compared.

What leaves a merger that keeps no grid does not mean the same in every image; its copies in all the places that went
into it do. Of mergers that keep a grid the way back of their operators does the same.
"""

import math
from functools import partial
from typing import Any

from torch import Tensor, nn

from mmltm.merging.operators import map_to_tokens, tokens_to_map
from mmltm.merging.sequences import Detour, SequenceMerger
from mmltm.models import TOKEN_MERGERS


def is_merger(module: nn.Module) -> bool:
    """Whether a module merges tokens."""
    return isinstance(module, (*TOKEN_MERGERS.module_dict.values(), Detour))


def keeps_grid(module: nn.Module) -> bool:
    """Whether a module merges maps, to maps whose tokens mean the same in every image."""
    return is_merger(module) and not isinstance(module, (SequenceMerger, Detour))


def sequence_map(tokens: Tensor, batch: int) -> Tensor:
    """Tokens as a map, (B, ..., C, H, W); what is one is returned as it is.

    Args:
        tokens (Tensor): (B A, N, C), A sequences an image, of a square grid and up to two class tokens before it.
        batch (int): B.

    Raises:
        ValueError: The tokens are no square grid.
    """
    if tokens.ndim == 4:
        return tokens
    count = tokens.shape[1]
    side = math.isqrt(count)
    if count - side**2 > 2:
        raise ValueError(f'{count} tokens are no square grid: evaluate on square images')
    maps = tokens[:, count - side**2:].mT.unflatten(2, (side, side))
    return maps.unflatten(0, (batch, -1))


class WayBack:
    """Sees the mergers of a model at work, and knows the way back from each of them.

    A merger continues the one before in the same list of mergers if it merges what that one left over.
    """

    def __init__(self) -> None:
        self._last: dict[str, tuple] = {}
        self._before: dict[nn.Module, tuple] = {}

    def follow(self, model: nn.Module) -> list:
        """Watch the mergers of a model.

        Returns:
            list: Handles of hooks, which the caller removes.
        """
        handles = [model.register_forward_pre_hook(lambda *_: self._last.clear())]
        for name, module in model.named_modules():
            if isinstance(module, SequenceMerger):
                handles.append(module.register_forward_pre_hook(_track))
            elif keeps_grid(module):
                handles.append(module.register_forward_hook(partial(self._note, name.rpartition('.')[0])))
        return handles

    def maps(self, module: nn.Module, args: tuple, output: tuple, batch: int) -> tuple[Tensor, Tensor]:
        """What entered a merger and what left it, on the full grid.

        Tokens that a merger has dropped are there as they were when they left, as the backbones return them.

        Args:
            module (nn.Module): The merger.
            args (tuple): Of its call.
            output (tuple): Of its call.
            batch (int): B.

        Returns:
            tuple[Tensor]: Two maps, (B, ..., C, H, W).

        Raises:
            ValueError: The tokens of a sequence are no square grid.
        """
        if isinstance(module, SequenceMerger):
            (tokens, history), (merged, history_after) = (args[0], args[2]), output
            return (sequence_map(history.restore(tokens), batch),
                    sequence_map(history_after.restore(merged), batch))
        before, after = args[0], _there_and_back(output[0], args[0])
        for operator in reversed(self._before.get(module, ())):
            before, after = operator.unmerge(before), operator.unmerge(after)
        return before, after

    def _note(self, stage: str, module: nn.Module, args: tuple, output: tuple) -> None:
        operators, operator = self._last.get(stage, ()), output[0]
        if operators and operators[-1].merged_grid != tuple(args[0].shape[-2:]):
            operators = ()
        self._before[module] = operators
        self._last[stage] = operators if operator is None else (*operators, operator)


def _track(merger: SequenceMerger, args: tuple) -> tuple:
    """Have the history of tokens keep the way back, even if the backbone does not ask for it."""
    tokens, attention, history, *others = args
    return tokens, attention, history.tracked(), *others


def _there_and_back(operator: Any, x: Tensor) -> Tensor:
    """What is left of a map, (B, ..., C, H, W), after merging and the way back."""
    if operator is None:
        return x
    # Detours are for sequences, whose channels come last in memory.
    tokens = operator.detour(map_to_tokens(x.flatten(0, -4)).contiguous(), lambda merged: merged)
    return tokens_to_map(tokens, x.shape[-2:]).unflatten(0, x.shape[:-3])
