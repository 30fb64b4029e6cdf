"""From a cell to all that running it takes: its config, its fingerprint and its files, made once and handed on."""

import copy
import functools
import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmltm.apis.config import find_config, load_config
from mmltm.engine.hooks import (
    IBStatisticsHook,
    LTMPBudgetHook,
    MaskTuningHook,
    RandomStateHook,
    StartEvaluationHook,
)
from mmltm.errors import UserError
from mmltm.models.builder import vanilla_twin
from mmltm.models.checkpoints import check_file, is_zoo
from mmltm.models.mergers import merger_type

from .cell import Cell, short_hash
from .distillation_hook import DistillationHook
from .results import FOLDERS

_LOG_INTERVAL = 10  # iterations, over which mmengine averages losses anyway
#: Settings of data that make no difference to results, or that name places on one machine; and the checkpoint of a
#: teacher, which is the cell's own.
_INDIFFERENT = ('data_root', 'num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor', 'backend_args',
                'checkpoint')
_TRAINING = ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'custom_hooks', 'randomness')


@dataclass(frozen=True)
class ResolvedCell:
    """A cell with what follows from it.

    Args:
        cell (Cell): What to run.
        cfg (Config): For a Runner that trains it, if it has epochs, and tests it. There is no validation: what is
            compared is the model after its last epoch. Hooks that ask for what the merger does not have are left
            out, and LTMP gets its budget. A training that was interrupted in the work folder goes on.
        fingerprint (dict): The entries of the cell's result that are known before it runs, without any path. Cells
            that agree in all of them have equal results.
        out_dir (Path): Folder of results.
    """
    cell: Cell
    cfg: Config
    fingerprint: dict[str, Any]
    out_dir: Path

    @property
    def key(self) -> str:
        return self.fingerprint['key']

    @property
    def result_path(self) -> Path:
        return self.out_dir / FOLDERS['cell'] / f'{self.key}.json'

    @property
    def work_dir(self) -> Path:
        """Where logs and checkpoints go: another folder for every change of settings."""
        return Path(self.cfg.work_dir)

    @property
    def tunes_masks(self) -> bool:
        """Whether a training leaves everything but mergers as it is."""
        return any(is_hook(hook, MaskTuningHook) for hook in self.cfg.custom_hooks)


def resolve(cell: Cell, out_dir: Path = Path(), data_root: str | None = None) -> ResolvedCell:
    """Config, fingerprint and folders of a cell.

    Args:
        cell (Cell): Which.
        out_dir (Path): Folder of results.
        data_root (str, optional): Folder that every data set shall read from.

    Raises:
        UserError: The config or the checkpoint cannot be used.
    """
    fingerprint = _fingerprint(cell, _config(cell, None))  # which no place of data on this machine is part of
    parts = (fingerprint['checkpoint'], *fingerprint['digest'].values())
    cfg = _config(cell, data_root)
    cfg.work_dir = str(Path(out_dir) / 'work_dirs' / cell.key / '-'.join(part[:6] for part in parts if part))
    if cell.epochs and (Path(cfg.work_dir) / 'last_checkpoint').is_file():
        cfg.load_from, cfg.resume = None, True
    return ResolvedCell(cell, cfg, fingerprint, Path(out_dir))


def _config(cell: Cell, data_root: str | None) -> Config:
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
    if not cell.epochs:
        cfg.train_dataloader = cfg.train_cfg = cfg.optim_wrapper = cfg.param_scheduler = None
        return cfg
    cfg.train_cfg.max_epochs = cell.epochs
    hooks = cfg.setdefault('default_hooks', {})
    hooks['checkpoint'] = dict(type='CheckpointHook', interval=1, max_keep_ckpts=1)
    hooks['logger'] = dict(hooks.get('logger') or dict(type='LoggerHook'), interval=_LOG_INTERVAL)
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


def _hooks(cfg: Config, cell: Cell) -> list[dict]:
    merger = cfg.model.backbone.merger or {}
    unused = [StartEvaluationHook, *([] if merger.get('num_classes') else [IBStatisticsHook])]
    hooks = [hook for hook in [*(cfg.get('custom_hooks') or []), *copy.deepcopy(cell.hooks)]
             if not any(is_hook(hook, kind) for kind in unused)]
    # With random states kept, an interrupted training goes on as if it had not been.
    needed = [RandomStateHook] * bool(cell.epochs) + [LTMPBudgetHook] * bool(merger and merger_type(merger).has_loss)
    hooks += [dict(type=f'mmltm.{kind.__name__}') for kind in needed
              if not any(is_hook(hook, kind) for hook in hooks)]
    for hook in hooks:
        if is_hook(hook, DistillationHook):
            hook.setdefault('checkpoint', cell.checkpoint)  # the hook's own default is gone when a training resumes
    return hooks


def is_hook(hook: dict, kind: type) -> bool:
    """Whether the config of a hook is of a class, by name or as such."""
    name = hook['type']
    return name is kind or isinstance(name, str) and name.rpartition('.')[2] == kind.__name__


def _fingerprint(cell: Cell, cfg: Config) -> dict[str, Any]:
    backbone = cfg.model.backbone
    parts = dict(
        model=[cfg.model, cfg.get('data_preprocessor')],
        test=[cfg.test_dataloader, cfg.test_evaluator],
        training=[cfg.get(key) for key in _TRAINING] if cfg.train_cfg else None)
    return dict(
        key=cell.key, label=cell.label, config=cell.config_name,
        model=f"{backbone.type.rpartition('.')[2]} {backbone.get('arch', '')}".strip(),
        merger=_plain(backbone.merger), ratio=cell.ratio, epochs=cell.epochs, seed=cell.seed,
        overrides=_plain(cell.overrides), hooks=_plain(cell.hooks), checkpoint=content_hash(cell.checkpoint),
        digest={name: value and short_hash(_relevant(value)) for name, value in parts.items()})


def _relevant(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _relevant(item) for key, item in value.items() if key not in _INDIFFERENT}
    return [_relevant(item) for item in value] if isinstance(value, (list, tuple)) else value


def _plain(value: Any) -> Any:
    """As JSON has it, with names for absolute paths."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return os.path.basename(value) if isinstance(value, str) and os.path.isabs(value) else value


def content_hash(checkpoint: str | None) -> str | None:
    """First 12 hexadecimal digits of a file's SHA-256; None for None.

    Raises:
        UserError: It is no file on this machine.
    """
    if checkpoint is None:
        return None
    if is_zoo(checkpoint):
        raise UserError(f'checkpoint {checkpoint}: download it first, results name it by its content')
    check_file('checkpoint', checkpoint)
    path = Path(checkpoint).expanduser()
    return _content_hash(path, path.stat().st_mtime_ns)


@functools.lru_cache
def _content_hash(path: Path, modified: int) -> str:
    return short_hash(path.read_bytes())
