"""Checks before a run, from quick to slow: what a config can tell is wrong before a model is built, and what a runner
can before it trains."""

import os
from collections.abc import Sequence

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import Runner

from mmltm.apis.checkpoint_checks import check_checkpoint_files
from mmltm.apis.dataset_checks import Labels, check_datasets
from mmltm.engine.hooks import IBStatisticsHook
from mmltm.engine.runner_utils import unwrapped_model
from mmltm.errors import UserError
from mmltm.merging import LTM

_LOCAL_RANK = dict(pytorch='LOCAL_RANK', slurm='SLURM_LOCALID', mpi='OMPI_COMM_WORLD_LOCAL_RANK')


def is_first_on_machine(launcher: str) -> bool:
    """Whether this process is the one of its machine that checks and complains for all."""
    return launcher == 'none' or os.environ.get(_LOCAL_RANK[launcher], '0') == '0'


def check_config(cfg: Config, splits: Sequence[str]) -> dict[str, Labels]:
    """Checks options, checkpoints' files and the datasets of ``splits``, in this order.

    Returns what the labels of the datasets stand for.
    """
    check_ratio(cfg)
    if 'train' in splits:
        check_loop(cfg)
        check_amp(cfg)
    check_checkpoint_files(cfg)
    return check_datasets(cfg, splits)


def check_ratio(cfg: Config) -> None:
    """Checks the merger of mmltm's backbones and that its ratios, a number or one per block, are in (0, 1]."""
    backbone = cfg.model.get('backbone') or {}
    if 'mmltm.' not in str(backbone.get('type')):  # as text for classes, too
        return
    merger = backbone.get('merger') or {}
    if isinstance(merger, str):  # its type alone
        merger = dict(type=merger)
    if not isinstance(merger, dict):
        raise UserError(f'model.backbone.merger is {merger!r}, expected a config like dict(type="LTM", ratio=0.7), or '
                        'a type')
    for key, ratio in (('ratio', backbone.get('ratio')), ('merger.ratio', merger.get('ratio'))):
        for value in ratio if isinstance(ratio, (list, tuple)) else [ratio]:
            if value is not None and not (isinstance(value, (int, float)) and 0 < value <= 1):
                raise UserError(f'model.backbone.{key} is {value!r}, expected a number in (0, 1]')


def check_loop(cfg: Config) -> None:
    """Checks the numbers of the training's loop, which some would divide by after the first epoch."""
    for key, least in (('max_epochs', 1), ('max_iters', 1), ('val_begin', 0), ('val_interval', 1)):
        value = (cfg.get('train_cfg') or {}).get(key)
        if value is not None and not (type(value) is int and value >= least):
            raise UserError(f'train_cfg.{key} is {value!r}, expected a whole number of at least {least}')


def check_amp(cfg: Config) -> None:
    """Checks that there is a device for mixed precision; mmengine refuses to use it on a CPU."""
    kind = cfg.optim_wrapper.get('type') or ''
    kind = kind if isinstance(kind, str) else kind.__name__
    if kind.endswith('AmpOptimWrapper') and get_device() in ('cpu', 'mps'):
        raise UserError('AmpOptimWrapper needs a GPU, and none is available: take mmltm.BFloat16OptimWrapper, or '
                        'leave mixed precision out')


def check_statistics(runner: Runner) -> None:
    """Checks that the class statistics of masks, if they keep any, will be filled: by an IBStatisticsHook."""
    layers = [name for name, module in unwrapped_model(runner).named_modules()
              if isinstance(module, LTM) and module.stats is not None]
    if layers and not any(isinstance(hook, IBStatisticsHook) for hook in runner.hooks):
        raise UserError(f'masks of {len(layers)} layers keep class statistics (model.backbone.merger.num_classes), but '
                        'nothing fills them: add dict(type="mmltm.IBStatisticsHook") to custom_hooks, or set '
                        'num_classes=None')
