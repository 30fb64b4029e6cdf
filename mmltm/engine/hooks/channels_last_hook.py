"""Feature maps whose channels lie side by side in memory."""

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmltm.registry import HOOKS


def ordered(states: dict[Any, Any], memory_format: torch.memory_format) -> dict[Any, Any]:
    """An optimiser's states by parameter, those of the weights of convolutions in a memory format."""
    return {parameter: {name: value.contiguous(memory_format=memory_format)
                        if isinstance(value, torch.Tensor) and value.dim() == 4 else value
                        for name, value in state.items()} for parameter, state in states.items()}


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Train and test with feature maps in memory as (N, H, W, C), which convolutions on CPUs and tensor cores prefer.

    Shapes stay, and so do results but for rounding. Maps follow the weights of the convolutions, so that only these are
    moved. Checkpoints are as without the hook. Of optimisers it knows a single one.
    """

    def before_run(self, runner: Runner) -> None:
        """Move the weights."""
        runner.model.to(memory_format=torch.channels_last)

    def before_train(self, runner: Runner) -> None:
        """Move the states of a resumed optimiser: fused ones take for granted that they lie as the weights do."""
        runner.optim_wrapper.optimizer.state.update(
            ordered(runner.optim_wrapper.optimizer.state, torch.channels_last))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Keep the optimiser's states in the order of a run without the hook."""
        if 'optimizer' in checkpoint:
            checkpoint['optimizer']['state'] = ordered(checkpoint['optimizer']['state'], torch.contiguous_format)
