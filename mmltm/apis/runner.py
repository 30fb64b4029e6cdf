"""Building mmengine's Runner, with errors in one line, and with data parallelism on CPUs."""

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from torch import distributed

from mmltm.models.builder import build_error


def build_runner(cfg: Config) -> Runner:
    """Builds the runner with its model, but no datasets; an error in one line says why that cannot be done."""
    if get_device() == 'cpu' and cfg.launcher == 'pytorch':
        # Without a GPU, mmengine would ask for NCCL, and for a CUDA device for each process.
        distributed.init_process_group('gloo')
        wrapper = cfg.get('model_wrapper_cfg') or dict(
            type='MMDistributedDataParallel', broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False))
        cfg.model_wrapper_cfg = dict(wrapper, device_ids=None)
    try:
        return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    except Exception as error:  # of whatever kind a constructor raises
        raise build_error('model', cfg, error) from error


def build_loop(runner: Runner, mode: str) -> None:
    """Builds datasets, evaluators and loop of a mode ('train', 'val' or 'test') before mmengine does."""
    try:
        getattr(runner, f'{mode}_loop')
    except Exception as error:
        raise build_error(f'datasets or loop for {mode}', runner.cfg, error) from error
