"""A further term in the training losses of a model that knows nothing of it."""

import inspect
from abc import abstractmethod
from typing import Any

from mmengine.hooks import Hook
from torch import Tensor, nn

from mmltm.engine.runner_utils import unwrapped_model
from mmltm.errors import UserError


class ExtraLossHook(Hook):
    """Adds one named term to the losses of every training step, whatever computes the others.

    A forward hook on the model adds it where the model, in training, returns its dict of losses; so the term takes
    part in the sum, in its gradient and in the log. Subclasses say its name, ``loss_name``, which must contain 'loss'
    to be summed up, and compute it in :meth:`term`; it counts ``weight`` times.
    """
    loss_name: str

    def __init__(self, weight: float) -> None:
        if weight < 0:
            raise UserError(f'weight must not be negative, got {weight}')
        self.weight = weight
        self._handles: list = []

    @abstractmethod
    def term(self, model: nn.Module, call: dict[str, Any]) -> Tensor:
        """The term before its weight, a tensor of shape (), right after a forward pass of the model, not wrapped.

        ``call`` has the arguments of that by name: ``inputs`` (B, 3, H, W) and ``data_samples``.
        """

    def watch(self, runner, model: nn.Module) -> list[Any]:
        """Prepares for a training; returns handles of further hooks on the model, to be removed after it."""
        return []

    def before_train(self, runner) -> None:
        model = unwrapped_model(runner)
        signature = inspect.signature(model.forward)

        def add(module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> Any:
            call = signature.bind(*args, **kwargs).arguments
            if not module.training or call.get('mode') != 'loss':
                return None
            return {**output, self.loss_name: self.weight * self.term(module, call)}

        self._handles = [*self.watch(runner, model), model.register_forward_hook(add, with_kwargs=True)]

    def after_train(self, runner) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
