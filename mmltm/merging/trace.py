"""What merges in a model, and what it did in a forward pass: one tracer for metrics, pictures and hooks."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from torch import nn

from .base import MergeOperator, Merger
from .sequences import SequenceMerger


def mergers_of(model: nn.Module) -> dict[str, Merger]:
    """Token mergers in a model by name, in its order; a merger within another one (a detour) is part of that."""
    found: dict[str, Merger] = {}
    for name, module in model.named_modules():
        if isinstance(module, Merger) and not any(name.startswith(f'{outer}.') for outer in found):
            found[name] = module
    return found


class MergeCall(NamedTuple):
    """One call of a merger in a forward pass.

    Attributes:
        arguments (dict): Of the call, by name.
        output (tuple): Operator and carry, or, of a merger without a grid, tokens and history.
        before (tuple): Operators of the merges that this one goes on from, which have led from the full grid of the
            stage to the map that the merger sees; empty without a grid.
    """
    name: str
    merger: Merger
    arguments: dict[str, Any]
    output: tuple[Any, Any]
    before: tuple[MergeOperator, ...]

    @property
    def owner(self) -> str:
        """Name of the list that the merger is in, one for each stage."""
        return self.name.rpartition('.')[0]


class MergeTrace:
    """Context in which every call of a model's mergers is handed on.

    A merge goes on from the one before in the same list of mergers if it merges the map that this one left over.

    Args:
        model (nn.Module): With mergers, whose forward pass they take part in.
        receive (Callable): Called with a :class:`MergeCall` after each call.
        track (bool): Let mergers without a grid keep a way back that the backbone does not need. Defaults to False.
    """

    def __init__(self, model: nn.Module, receive: Callable[[MergeCall], None], track: bool = False) -> None:
        self.model, self.receive, self.track = model, receive, track
        self._chains: dict[str, tuple[MergeOperator, ...]] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> 'MergeTrace':
        self.start()
        return self

    def __exit__(self, *exception) -> None:
        self.stop()

    def start(self) -> None:
        self._handles = [self.model.register_forward_pre_hook(lambda *_: self._chains.clear())]
        for name, merger in mergers_of(self.model).items():
            if self.track and isinstance(merger, SequenceMerger):
                self._handles.append(merger.register_forward_pre_hook(_keep_history, with_kwargs=True))
            self._handles.append(merger.register_forward_hook(partial(self._take, name), with_kwargs=True))

    def stop(self) -> None:
        """Leave the model as it was."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _take(self, name: str, merger: Merger, args: tuple, kwargs: dict, output: tuple[Any, Any]) -> None:
        arguments = _bound(merger, args, kwargs)
        before: tuple[MergeOperator, ...] = ()
        if merger.keeps_grid:
            owner, grid = name.rpartition('.')[0], tuple(arguments['x'].shape[-2:])
            before = self._chains.get(owner, ())
            if before and before[-1].merged_grid != grid:
                before = ()
            self._chains[owner] = before if output[0] is None else (*before, output[0])
        self.receive(MergeCall(name, merger, arguments, output, before))


def _bound(merger: Merger, args: tuple, kwargs: dict) -> dict[str, Any]:
    call = inspect.signature(merger.forward).bind(*args, **kwargs)
    call.apply_defaults()
    return call.arguments


def _keep_history(merger: Merger, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    arguments = _bound(merger, args, kwargs)
    return (), {**arguments, 'history': arguments['history'].tracked()}
