"""Building mmengine's Runner, with errors in one line, and with data parallelism on CPUs."""

import logging
from collections.abc import Callable
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import all_gather_object
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from torch import distributed

from mmltm.apis.readers import mend_readers
from mmltm.engine.whole_files import check_writable, newest_whole_checkpoint
from mmltm.errors import UserError, summary
from mmltm.models.builder import build_error, cause


def prepare_work_dir(cfg: Config) -> None:
    """Checks that the work dir can be written to, and finds the newest whole checkpoint in it to resume from.

    Raises:
        UserError: All checkpoints are damaged, or nothing can be written.
    """
    check_writable('work dir', cfg.work_dir, 'choose another one by --work-dir')
    if cfg.get('resume') and not cfg.get('load_from'):
        cfg.load_from, damaged = newest_whole_checkpoint(cfg.work_dir)
        if damaged:
            print_log(f'{", ".join(damaged)} damaged or missing: resuming from {cfg.load_from}, the newest checkpoint '
                      'that is whole', 'current', logging.WARNING)


def build_runner(cfg: Config) -> Runner:
    """Builds the runner with its model, but no datasets; an error in one line says why that cannot be done."""
    mend_readers(cfg.default_scope)
    if get_device() == 'cpu' and cfg.launcher == 'pytorch':
        if cfg.get('sync_bn'):
            raise UserError('sync_bn: PyTorch normalises over several processes on GPUs only: leave it out here')
        # Without a GPU, mmengine would ask for NCCL, and for a CUDA device for each process.
        distributed.init_process_group('gloo')
        wrapper = cfg.get('model_wrapper_cfg') or dict(
            type='MMDistributedDataParallel', broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False))
        cfg.model_wrapper_cfg = dict(wrapper, device_ids=None)
    cfg.default_hooks = cfg.get('default_hooks') or {}
    checkpoint = cfg.default_hooks.setdefault('checkpoint', dict(type='CheckpointHook', interval=1))
    if checkpoint and checkpoint['type'] in ('CheckpointHook', CheckpointHook):
        checkpoint['type'] = 'mmltm.WholeCheckpointHook'
    if cfg.get('strategy') or cfg.get('runner_type') == 'FlexibleRunner':
        cfg.runner_type = 'mmltm.ShardedRunner'
    try:
        runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    except Exception as error:  # of whatever kind a constructor raises
        raise build_error('model', cfg, error) from error
    for name, what in (('build_optim_wrapper', 'optimizer'), ('build_param_scheduler', 'schedules')):
        if hasattr(runner, name):  # called as training begins
            setattr(runner, name, _told(getattr(runner, name), f'build the {what} from {cfg.filename}'))
    for name, what in (('resume', 'resume from'), ('load_checkpoint', 'load')):
        setattr(runner, name, _told(getattr(runner, name), f'{what} {cfg.load_from}'))
    starts = sorted(set(all_gather_object(str(cfg.load_from)))) if cfg.get('resume') else []
    if len(starts) > 1:
        raise UserError(f'the processes would resume from different checkpoints ({", ".join(starts)}): work dir '
                        f'{cfg.work_dir} must be on a file system that all machines share')
    return runner


def _told(function: Callable, what: str) -> Callable:
    """The function, whose errors are said in one line."""
    def call(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except Exception as error:  # of whatever kind a constructor or a file leads to
            if isinstance(error, UserError):
                raise
            raise UserError(f'cannot {what}: {summary(cause(error))}') from error
    return call


def build_loop(runner: Runner, mode: str) -> None:
    """Builds datasets, evaluators and loop of a mode ('train', 'val' or 'test') before mmengine does.

    Raises:
        UserError: They cannot be built, or there is not one batch.
    """
    try:
        loop = getattr(runner, f'{mode}_loop')
    except Exception as error:
        if 'need at least one array to concatenate' in str(error):  # so mmengine says that there is nothing
            raise UserError(f'{mode}_dataloader: no image is left in a data set; what it leaves out is said by its '
                            'filter_cfg, metainfo.classes and indices') from error
        raise build_error(f'datasets or loop for {mode}', runner.cfg, error) from error
    loader: Any = getattr(loop, 'dataloader', None)
    if loader is not None and not len(loader):
        raise UserError(f'{mode}_dataloader gives no batch: {len(loader.dataset)} images do not fill one of '
                        f'{loader.batch_size}, and drop_last leaves out the rest')
