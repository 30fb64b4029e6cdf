"""The share of operations that LTMP's thresholds are to learn (Bonnaerens and Dambre, TMLR 2023, section 3.3)."""

from typing import Any

from torch import Tensor, nn

from mmltm.engine.hooks.extra_loss_hook import ExtraLossHook
from mmltm.errors import UserError
from mmltm.merging.ltmp import LTMP, budget_loss
from mmltm.registry import HOOKS


@HOOKS.register_module()
class LTMPBudgetHook(ExtraLossHook):
    """Adds :func:`mmltm.merging.ltmp.budget_loss` to the training losses, as ``loss_budget``.

    ``weight`` is its factor, by default the paper's.
    """
    loss_name = 'loss_budget'

    def __init__(self, weight: float = 10.0) -> None:
        super().__init__(weight)

    def watch(self, runner, model: nn.Module) -> list:
        if not any(isinstance(module, LTMP) for module in model.modules()):
            raise UserError('LTMPBudgetHook: no threshold to tune: the backbone needs merger=dict(type="LTMP", '
                            'ratio=...) with a ratio below 1, or leave the hook out')
        return []

    def term(self, model: nn.Module, call: dict[str, Any]) -> Tensor:
        return budget_loss(model)
