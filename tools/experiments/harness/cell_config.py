"""From a cell to the config that mmengine's Runner takes."""

import copy
import functools
import pickle
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from mmltm.apis.config import find_config, load_config
from mmltm.engine.hooks import (
    DistillationHook,
    IBStatisticsHook,
    LTMPBudgetHook,
    MaskTuningHook,
    RandomStateHook,
    StartEvaluationHook,
)
from mmltm.errors import UserError
from mmltm.models.builder import vanilla_twin

from .cell import Cell

_LOG_INTERVAL = 10  # iterations, over which mmengine averages losses anyway


def cell_config(cell: Cell, data_root: str | None = None, work_dir: Path | None = None) -> Config:
    """The config of a cell, ready for a Runner that trains it, if it has epochs, and tests it.

    There is no validation: what is compared is the model after its last epoch. Hooks that ask for what the merger
    does not have are left out, and LTMP gets its budget.

    Args:
        cell (Cell): Whose.
        data_root (str, optional): Folder that every data set shall read from.
        work_dir (Path, optional): Where logs and checkpoints go. A training that was interrupted there goes on.

    Raises:
        UserError: The config cannot be used.
    """
    for key in cell.overrides:
        if key in ('model.backbone.ratio', 'model.backbone.merger') or (
                cell.merger is None and key.startswith('model.backbone.merger.')):
            raise UserError(f'{cell.label}: the override {key} is for the merger of the cell to say')
    of_model = {key: value for key, value in cell.overrides.items() if key.startswith('model.')}
    others = {key: value for key, value in cell.overrides.items() if key not in of_model}
    needs = ('model', 'test_dataloader', 'test_evaluator') + (('train_dataloader', 'optim_wrapper')
                                                              if cell.epochs else ())
    path = find_config(cell.config).absolute()
    cfg = copy.deepcopy(_read(path, path.stat().st_mtime_ns, pickle.dumps(others), data_root, needs))
    cfg.work_dir = str(work_dir or cfg.work_dir)
    # Not update(), which would merge the two mergers.
    cfg.model.backbone['ratio'], cfg.model.backbone['merger'] = None, copy.deepcopy(cell.merger)
    cfg.merge_from_dict(copy.deepcopy(of_model))
    cfg.randomness = dict(cfg.get('randomness') or {}, seed=cell.seed)
    cfg.load_from, cfg.resume = cell.checkpoint, False
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    if cfg.get('visualizer'):
        cfg.visualizer.pop('name', None)  # else all cells of a process would log to the folder of the first
    cfg.custom_hooks = _hooks(cfg, cell)
    if not isinstance(cfg.test_evaluator, list):
        cfg.test_evaluator = [cfg.test_evaluator]
    if cell.epochs:
        _set_training(cfg, cell.epochs)
    else:
        cfg.train_dataloader = cfg.train_cfg = cfg.optim_wrapper = cfg.param_scheduler = None
    return cfg


@functools.lru_cache(maxsize=32)
def _read(path: Path, modified: int, overrides: bytes, data_root: str | None, needs: Sequence[str]) -> Config:
    """The config of a file; read once for many cells, because that takes longer than all else before a run."""
    cfg = load_config(str(path), pickle.loads(overrides), data_root, needs=needs)
    try:
        vanilla_twin(cfg)
    except ValueError as error:
        raise UserError(f'config {path.name}: {error}') from error
    return cfg


def _hooks(cfg: Config, cell: Cell) -> list:
    merger = cfg.model.backbone.merger or {}
    unused = [StartEvaluationHook]
    if not (merger.get('type') == 'LTM' and merger.get('num_classes')):
        unused.append(IBStatisticsHook)
    hooks = [hook for hook in [*(cfg.get('custom_hooks') or []), *copy.deepcopy(cell.hooks)]
             if not any(is_hook(hook, kind) for kind in unused)]
    if cell.epochs and not any(is_hook(hook, RandomStateHook) for hook in hooks):
        hooks.append(dict(type='mmltm.RandomStateHook'))  # an interrupted training goes on as if it had not been
    if merger.get('type') == 'LTMP' and not any(is_hook(hook, LTMPBudgetHook) for hook in hooks):
        hooks.append(dict(type='mmltm.LTMPBudgetHook'))
    for hook in hooks:
        if is_hook(hook, DistillationHook):
            hook.setdefault('checkpoint', cell.checkpoint)  # the hook's own default is gone when a training resumes
    return hooks


def _set_training(cfg: Config, epochs: int) -> None:
    cfg.train_cfg.max_epochs = epochs
    hooks = cfg.setdefault('default_hooks', {})
    hooks['checkpoint'] = dict(type='CheckpointHook', interval=1, max_keep_ckpts=1)
    hooks['logger'] = dict(hooks.get('logger') or dict(type='LoggerHook'), interval=_LOG_INTERVAL)
    if (Path(cfg.work_dir) / 'last_checkpoint').is_file():
        cfg.load_from, cfg.resume = None, True


def is_hook(hook: dict, kind: type) -> bool:
    """Whether the config of a hook is of a class, by name or as such."""
    name = hook['type']
    return name is kind or isinstance(name, str) and name.rpartition('.')[2] == kind.__name__


def tunes_masks(cfg: Config) -> bool:
    """Whether a training leaves everything but mergers as it is."""
    return any(is_hook(hook, MaskTuningHook) for hook in cfg.get('custom_hooks') or [])
