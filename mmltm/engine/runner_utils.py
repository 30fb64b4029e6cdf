"""What hooks ask about a run."""

from typing import Any

from mmengine.hooks import CheckpointHook
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.nn.parallel import DistributedDataParallel

from mmltm.errors import UserError


def unwrapped_model(runner: Runner) -> Any:
    """The model without the wrapper of a distributed run."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def resumes(runner: Runner) -> bool:
    """Whether the run goes on with an earlier training."""
    return runner._resume  # mmengine has no public name for it


def is_epoch_based(runner: Runner) -> bool:
    return isinstance(runner.train_loop, EpochBasedTrainLoop)


def iterations_per_pass(runner: Runner) -> int:
    """Iterations in which the ranks together see as many images as the training set has."""
    loader = runner.train_dataloader
    batch = loader.batch_size or loader.batch_sampler.batch_size
    return max(1, -(-len(loader.dataset) // (batch * runner.world_size)))


def saves_after_iter(runner: Runner) -> bool:
    """Whether a checkpoint hook is about to save in ``after_train_iter``, known on every rank beforehand."""
    return any(
        hook.every_n_train_iters(runner, hook.interval, hook.save_begin)
        or hook.save_last and hook.is_last_train_iter(runner)
        for hook in runner.hooks if isinstance(hook, CheckpointHook) and not hook.by_epoch)


def wait_for_learning_only(runner: Runner) -> None:
    """Wrap a data parallel model anew: it waits for a gradient of each parameter that learned when it was wrapped.

    Collective. To be called after ``requires_grad`` of parameters has changed.
    """
    old = runner.model
    if is_model_wrapper(old) and not isinstance(old, DistributedDataParallel):
        raise UserError('a sharded model freezes no parameters, but the masks and statistics of the checkpoint are to '
                        'stay: leave out the strategy, or set num_classes of the merger to that of the head')
    if isinstance(old, DistributedDataParallel) and not old.find_unused_parameters:
        runner.model = type(old)(
            module=old.module, device_ids=old.device_ids, broadcast_buffers=old.broadcast_buffers,
            process_group=old.process_group, gradient_as_bucket_view=old.gradient_as_bucket_view)


def is_parallel(runner: Runner) -> bool:
    """Whether the model is wrapped so that a parameter without a gradient would be waited for."""
    return is_model_wrapper(runner.model) and not getattr(runner.model, 'find_unused_parameters', False)
