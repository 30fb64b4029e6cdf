"""Which cells can be run, known before time is spent on any: every model is built, and the checkpoint loaded."""

import logging
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from mmltm.apis.preflight import check_config
from mmltm.errors import UserError, summary
from mmltm.models.builder import build_model, cause
from mmltm.models.checkpoints import check_tested, read_checkpoint
from mmltm.models.merging_modules import learnable_parameters

from .cell import Cell, off_the_shelf
from .resolve import ResolvedCell, resolve

_SILENT = logging.Logger('silent', logging.CRITICAL)


def dry_run(cells: Sequence[Cell], out_dir: Path = Path(),
            data_root: str | None = None) -> tuple[list[ResolvedCell], dict[str, str]]:
    """The cells that make sense, resolved, and of these the ones that cannot be.

    A cell that would train what cannot learn, masks of a merger that has none, becomes the one off the shelf.

    Args:
        cells (Sequence[Cell]): Of one or several configs.
        out_dir (Path): Folder of results.
        data_root (str, optional): Folder that every data set shall read from.

    Returns:
        tuple: The cells, and the reason for each that the backbone refuses, by its key.

    Raises:
        UserError: Two different cells have the same key; or data, a checkpoint or anything else is missing or wrong.
    """
    models: dict[str, tuple[bool, str | None]] = {}
    data: set[tuple] = set()
    kept: dict[str, ResolvedCell] = {}
    impossible: dict[str, str] = {}
    for cell in cells:
        resolved = resolve(cell, out_dir, data_root)
        splits = ('train', 'test') if cell.epochs else ('test', )
        if (cell.config, splits) not in data:
            check_config(resolved.cfg, splits)
            data.add((cell.config, splits))
        state = repr((resolved.cfg.model, cell.checkpoint))
        if state not in models:
            models[state] = _try_model(resolved.cfg, cell.checkpoint)
        learns, reason = models[state]
        if cell.epochs and resolved.tunes_masks and not (learns or reason):
            resolved = resolve(off_the_shelf(cell), out_dir, data_root)
        if kept.setdefault(resolved.key, resolved).cell != resolved.cell:
            raise UserError(f'two cells are named {resolved.key}: give them different labels')
        if reason:
            impossible[resolved.key] = reason
    return list(kept.values()), impossible


def _try_model(cfg: Config, checkpoint: str | None) -> tuple[bool, str | None]:
    """Whether mergers of the model learn, or why there can be no such model."""
    preprocessor = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor')
    try:
        model = build_model(dict(cfg.model, data_preprocessor=preprocessor), cfg.default_scope)
    except ValueError as error:
        if cfg.model.backbone.merger is None:
            raise UserError(f'cannot build the vanilla model of {cfg.filename}: {summary(error)}') from error
        return False, str(cause(error))
    except Exception as error:  # of whatever kind a constructor raises
        raise UserError(f'cannot build the model from {cfg.filename}: {summary(error)}') from error
    if checkpoint is not None:
        check_tested(model, checkpoint, read_checkpoint(checkpoint), _SILENT)
    return bool(learnable_parameters(model)), None
