"""Which cells can be run, known before time is spent on any: every model is built, and the checkpoint loaded."""

import logging
from collections.abc import Sequence

from mmengine.config import Config

from mmltm.apis.preflight import check_config
from mmltm.errors import UserError, summary
from mmltm.models.builder import build_model
from mmltm.models.checkpoints import check_tested, read_checkpoint
from mmltm.models.merging_modules import learnable_parameters

from .cell import Cell, off_the_shelf, unique
from .cell_config import cell_config, tunes_masks

_SILENT = logging.Logger('silent', logging.CRITICAL)


def check_cells(cells: Sequence[Cell], data_root: str | None = None) -> tuple[list[Cell], dict[str, str]]:
    """The cells that make sense, and of these the ones that cannot be.

    A cell that would train what cannot learn, masks of a merger that has none, becomes the one off the shelf.

    Args:
        cells (Sequence[Cell]): Of one or several configs.
        data_root (str, optional): Folder that every data set shall read from.

    Returns:
        tuple: The cells, and the reason for each that the backbone refuses, by its key.

    Raises:
        UserError: Two different cells have the same key; or data, a checkpoint or anything else is missing or wrong.
    """
    models, data, kept, impossible = {}, set(), [], {}
    for cell in cells:
        cfg = cell_config(cell, data_root)
        splits = ('train', 'test') if cell.epochs else ('test', )
        if (cell.config, splits) not in data:
            check_config(cfg, splits)
            data.add((cell.config, splits))
        state = repr((cfg.model, cell.checkpoint))
        if state not in models:
            models[state] = _try_model(cfg, cell.checkpoint)
        learns, reason = models[state]
        if cell.epochs and tunes_masks(cfg) and not (learns or reason):
            cell = off_the_shelf(cell)
        kept.append(cell)
        if reason:
            impossible[cell.key] = reason
    kept = unique(kept)
    keys = [cell.key for cell in kept]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise UserError(f'two cells are named {twice}: give them different labels')
    return kept, impossible


def _try_model(cfg: Config, checkpoint: str | None) -> tuple[bool, str | None]:
    """Whether mergers of the model learn, or why there can be no such model."""
    preprocessor = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor')
    try:
        model = build_model(dict(cfg.model, data_preprocessor=preprocessor), cfg.default_scope)
    except ValueError as error:
        if cfg.model.backbone.merger is None:
            raise UserError(f'cannot build the vanilla model of {cfg.filename}: {summary(error)}') from error
        return False, summary(error).partition(': ')[2]
    except Exception as error:  # of whatever kind a constructor raises
        raise UserError(f'cannot build the model from {cfg.filename}: {summary(error)}') from error
    if checkpoint is not None:
        check_tested(model, checkpoint, read_checkpoint(checkpoint), _SILENT)
    return bool(learnable_parameters(model)), None
