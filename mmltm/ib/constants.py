"""What a module makes of its own parameters and buffers alone, kept until they change, and no part of any trace."""

import contextlib
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Made = TypeVar('Made')
Function = TypeVar('Function', bound=Callable)


def constant_result(function: Function) -> Function:
    """Decorator: the result follows from arguments that are numbers and names, and ``torch.compile`` need not look in.

    As ``torch.compiler.assume_constant_result``, which would import the whole compiler.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def exporting() -> bool:
    """Whether a graph is being taken of this call, by ``torch.jit`` or ``torch.export``, that is never to learn."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling()


def no_grad() -> contextlib.AbstractContextManager:
    """``torch.no_grad``, of which an exported graph, which has no gradient, would make a graph in the graph."""
    return contextlib.nullcontext() if exporting() else torch.no_grad()


class KeepsConstants(nn.Module):
    """Base of modules with constants of evaluation, :meth:`kept`.

    ``torch.jit.trace``, ``torch.export`` and what builds on them see a constant as such, with or without a call before.
    ``torch.compile`` makes it in the graph of the first call, and gives it to that of all others as an input.
    """

    def __init__(self) -> None:
        super().__init__()
        self._constants: dict[Hashable, tuple] = {}
        self._own: dict[str, Any] = {}

    def kept(self, key: Hashable, make: Callable[[], Made], of: tuple[str, ...] = (), after: Any = None) -> Made:
        """What ``make`` makes, without a gradient, until one of the own tensors named ``of`` changes, or ``after``."""
        if torch.compiler.is_dynamo_compiling():  # which knows neither versions nor identities
            if key not in self._constants:
                self._constants[key] = None, make(), after
            return self._constants[key][1]
        own = self._own if exporting() else {}
        tensors: list[Tensor] = [own[name] if name in own else getattr(self, name) for name in of]
        # Tensors made in inference mode count no versions; what replaces or changes them forgets all that is kept.
        stamp = (*((id(x), 0 if x.is_inference() else x._version) for x in tensors), id(after))
        found = self._constants.get(key)
        if found is None or found[0] != stamp:
            # What ``after`` is held, too, which keeps its identity from being reused.
            self._constants[key] = found = stamp, self._untraced(make), after
        return found[1]

    def _untraced(self, make: Callable[[], Made]) -> Made:
        """The result of a function that is called as if nothing were traced, nor autocast, nor in inference mode."""

        def call() -> Made:
            with torch.no_grad():
                return make()

        traced = self._parameters, self._buffers
        if exporting() and self._own:
            # torch.export has put symbols in the place of the tensors.
            self._parameters = {name: self._own[name] for name in self._parameters}
            self._buffers = {name: self._own[name] for name in self._buffers}
        try:
            # All modes of torch are those of a thread, and a new one is in none.
            with ThreadPoolExecutor(1) as thread:
                return thread.submit(call).result()
        finally:
            self._parameters, self._buffers = traced

    def _forget(self) -> None:
        self._constants.clear()
        self._own = {**self._parameters, **self._buffers}

    # What was made before any of these is stale after it.
    def train(self, mode: bool = True) -> 'KeepsConstants':
        self._forget()
        return super().train(mode)

    def _apply(self, *args, **kwargs) -> 'KeepsConstants':
        super()._apply(*args, **kwargs)
        self._forget()
        return self

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._forget()

    def __getstate__(self) -> dict:
        return {**self.__dict__, '_constants': {}, '_own': {}}

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        self._forget()
