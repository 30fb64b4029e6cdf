"""Models whose weights, gradients and optimizer states are spread over the processes: FSDP and DeepSpeed.

mmengine trains them by its ``FlexibleRunner`` and a strategy. What is here mends what these lack in mmengine 0.10: a
model that can be checked before it is sharded, hooks that begin before a checkpoint is loaded, resuming with PyTorch
2.1 and newer, gradients clipped by the norm of the whole model, and FSDP without a GPU.
"""

from importlib.util import find_spec
from typing import Any

import torch
from mmengine._strategy import FSDPStrategy as _FSDPStrategy
from mmengine.device import get_device
from mmengine.dist import all_reduce
from mmengine.hooks import EMAHook
from mmengine.optim import BaseOptimWrapper
from mmengine.runner._flexible_runner import FlexibleRunner
from torch import nn
from torch.distributed.fsdp import FullOptimStateDictConfig, FullStateDictConfig, FullyShardedDataParallel

from mmltm.engine.hooks import IBStatisticsHook, MaskTuningHook
from mmltm.errors import UserError
from mmltm.registry import RUNNERS, STRATEGIES


@STRATEGIES.register_module()
class FSDPStrategy(_FSDPStrategy):
    """mmengine's ``FSDPStrategy``; its arguments, but checkpoints are by default single files that any model loads."""

    def __init__(self, *, model_wrapper: dict | None = None, state_dict_cfg: str | dict = 'full', **kwargs) -> None:
        model_wrapper = {'type': 'MMFullyShardedDataParallel', **(model_wrapper or {})}
        if get_device() == 'cpu':
            model_wrapper['device_id'] = torch.device('cpu')  # else torch asks for an accelerator
            if state_dict_cfg == 'full':  # moved to the CPU, which moves nothing, it would be freed before it is saved
                state_dict_cfg = dict(
                    state_dict_type='FULL_STATE_DICT', state_dict_config=FullStateDictConfig(rank0_only=True),
                    optim_state_dict_config=FullOptimStateDictConfig(rank0_only=True))
        super().__init__(model_wrapper=model_wrapper, state_dict_cfg=state_dict_cfg, **kwargs)

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        # FSDP takes no scalars, as the gains of steps are: every rank has them whole, and averages their gradients.
        scalars = [parameter for parameter in model.parameters() if not parameter.dim()]
        for parameter in scalars:
            parameter.data = parameter.data.to(get_device())
            parameter.register_post_accumulate_grad_hook(lambda parameter: all_reduce(parameter.grad, 'mean'))
        self.model_wrapper['ignored_states'] = scalars
        return super()._wrap_model(model)

    def load_optim_state_dict(self, state_dict: dict) -> None:
        optimizer = self.optim_wrapper.optimizer
        optimizer.load_state_dict(FullyShardedDataParallel.optim_state_dict_to_load(
            model=self.model, optim=optimizer, optim_state_dict=state_dict))

    def build_optim_wrapper(self, *args, **kwargs) -> BaseOptimWrapper:
        wrapper = super().build_optim_wrapper(*args, **kwargs)
        if getattr(wrapper, 'clip_func', None) is torch.nn.utils.clip_grad_norm_:
            wrapper.clip_func = lambda _, **kwargs: self.model.clip_grad_norm_(**kwargs)
        return wrapper


@RUNNERS.register_module()
class ShardedRunner(FlexibleRunner):
    """mmengine's ``FlexibleRunner`` for ``strategy=dict(type='mmltm.FSDPStrategy')`` or DeepSpeed's.

    Raises:
        UserError: A hook needs what a sharded model cannot give.
    """

    model: Any

    def __init__(self, *args, strategy: dict | None = None, launcher: str | None = None, env_cfg: dict | None = None,
                 **kwargs) -> None:
        strategy = dict(strategy or {})
        kind = str(strategy.get('type'))
        if kind == 'FSDPStrategy':
            strategy['type'] = 'mmltm.FSDPStrategy'
        if 'DeepSpeed' in kind and not find_spec('deepspeed'):
            raise UserError(f'strategy {kind} needs DeepSpeed, which is not installed: pip install deepspeed')
        if strategy and launcher == 'none':
            raise UserError(f'strategy {kind} needs several processes: start them by tools/dist_train.sh')
        super().__init__(*args, strategy=strategy or None, launcher=launcher, env_cfg=env_cfg or {}, **kwargs)
        for hook in self.hooks if strategy else ():
            freezes = isinstance(hook, MaskTuningHook) or isinstance(hook, IBStatisticsHook) and (
                hook.t_warm or hook.update_statistics is False)
            if freezes or isinstance(hook, EMAHook):
                raise UserError(
                    f'{type(hook).__name__} {"freezes" if freezes else "averages"} whole weights, of which {kind} '
                    'leaves every process a share: leave out the strategy, or the hook (t_warm and '
                    'update_statistics=False of IBStatisticsHook)')
        self._begun = False
        self.model = self.strategy.build_model(self.model)

    def load_or_resume(self) -> None:
        self.call_hook('before_run')
        super().load_or_resume()

    def call_hook(self, fn_name: str, **kwargs) -> None:
        if fn_name == 'before_run' and self._begun:
            return
        self._begun = self._begun or fn_name == 'before_run'
        super().call_hook(fn_name, **kwargs)
