"""What tells a cell from all others, as its result says it: cells that agree in all of this have equal results."""

import functools
import hashlib
import os
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmltm.errors import UserError
from mmltm.models.checkpoints import check_file, is_zoo

from .cell import Cell, short_hash
from .cell_config import cell_config

#: Settings of data that make no difference to results, or that name places on one machine; and the checkpoint of a
#: teacher, which is the cell's own.
_INDIFFERENT = ('data_root', 'num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor', 'backend_args',
                'checkpoint')
_TRAINING = ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler', 'custom_hooks', 'randomness')


def identity(cell: Cell) -> dict[str, Any]:
    """The entries of a cell's result that are known before it runs, without any path.

    Raises:
        UserError: The config or the checkpoint cannot be used.
    """
    cfg = cell_config(cell)
    backbone = cfg.model.backbone
    return dict(
        key=cell.key, label=cell.label, config=cell.config_name,
        model=f"{backbone.type.rpartition('.')[2]} {backbone.get('arch', '')}".strip(),
        merger=_plain(backbone.merger), ratio=cell.ratio, epochs=cell.epochs, seed=cell.seed,
        overrides=_plain(cell.overrides), hooks=_plain(cell.hooks), checkpoint=content_hash(cell.checkpoint),
        digest=_digest(cfg))


def _digest(cfg: Config) -> dict[str, str | None]:
    parts = dict(
        model=[cfg.model, cfg.get('data_preprocessor')],
        test=[cfg.test_dataloader, cfg.test_evaluator],
        training=[cfg.get(key) for key in _TRAINING] if cfg.train_cfg else None)
    return {name: value and short_hash(_relevant(value)) for name, value in parts.items()}


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
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
