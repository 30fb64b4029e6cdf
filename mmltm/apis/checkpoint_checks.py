"""Checks of the checkpoints that a config and a training start from."""

import logging
import os.path as osp
from collections.abc import Iterator

from mmengine.config import Config
from mmengine.runner import Runner, find_latest_checkpoint
from torch import nn

from mmltm.engine.runner_utils import unwrapped_model
from mmltm.errors import UserError
from mmltm.models.checkpoints import (
    Difference,
    check_file,
    check_tested,
    compare,
    is_zoo,
    masks_among,
    read_checkpoint,
    state_dict,
)

# Part of the weights, masks apart, that a checkpoint to start from must fill. Of a whole model: a new head is common,
# a new backbone a mistake. Of the module whose init_cfg names it: norms of outputs that a classifier has not, or the
# offsets of deformable convolutions, are common, other blocks a mistake.
_MIN_SHARE = 0.5
_MIN_SHARE_OF_MODULE = 0.8


def check_checkpoint_files(cfg: Config) -> None:
    """Checks that all checkpoints the config names as local files exist."""
    if cfg.get('load_from'):
        check_file('checkpoint', cfg.load_from)
    elif cfg.get('resume') and (latest := _latest(cfg)):
        check_file(f'latest checkpoint of {cfg.work_dir},', latest)
    for key, init_cfg in _pretrained('model', cfg.model):
        check_file(f'{key}.checkpoint', init_cfg['checkpoint'])


def _latest(cfg: Config) -> str | None:
    """The checkpoint that mmengine will resume from by itself, if there is one."""
    has_one = osp.isfile(osp.join(cfg.work_dir, 'last_checkpoint'))  # mmengine prints a line if not
    return find_latest_checkpoint(cfg.work_dir) if has_one else None


def _pretrained(key: str, value) -> Iterator[tuple[str, dict]]:
    """Yields each ``dict(type='Pretrained', checkpoint=...)`` within a config, and its key."""
    if isinstance(value, dict):
        if value.get('type') == 'Pretrained' and isinstance(value.get('checkpoint'), str):
            yield key, value
        for name, item in value.items():
            yield from _pretrained(f'{key}.{name}', item)
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _pretrained(f'{key}.{i}', item)


def check_trained(runner: Runner, cfg: Config) -> None:
    """Checks the checkpoints that training starts from, and logs what they bring.

    One to resume from must be of this very model. Pre-trained weights must fill most of the keys that they are meant
    for, and every mask if they hold any.

    Raises:
        UserError: A checkpoint is of another model.
    """
    start, model = cfg.get('load_from'), unwrapped_model(runner)
    if cfg.get('resume'):
        start = start or _latest(cfg)
        if start:
            checkpoint = read_checkpoint(start)
            check_tested(model, start, checkpoint, runner.logger, masks_may_miss=False)
            if 'message_hub' not in checkpoint:
                raise UserError(f'cannot resume from {start}, which holds weights but no state of a training: '
                                f'to start from its weights, use --cfg-options load_from={start}')
        return
    for name, module in model.named_modules():
        if getattr(module, 'is_init', False):  # read while the model was built, and changed since, as by LoRA
            continue
        for _, init_cfg in _pretrained(name, getattr(module, 'init_cfg', None)):
            path = init_cfg['checkpoint']
            if is_zoo(path):  # those name their model
                continue
            part = name or 'the model'
            difference = _loaded(part, module, path, init_cfg.get('prefix') or '', _MIN_SHARE_OF_MODULE)
            if difference.part(merging=False).mismatched:
                raise UserError(f'checkpoint {path} does not fit {part}: {difference}')
            _log_brought(part, path, difference, runner.logger)
    if start:
        _log_brought('the model', start, _loaded('the model', model, start, '', _MIN_SHARE), runner.logger)


def _loaded(name: str, module: nn.Module, path: str, prefix: str, min_share: float) -> Difference:
    """Loads a checkpoint to start from as far as it fits, which must be far enough."""
    difference = compare(module, state_dict(read_checkpoint(path), prefix))
    weights, merging = difference.part(merging=False), difference.part(merging=True)
    if len(weights.filled) < min_share * len(weights.own):
        below = f' below {prefix!r}' if prefix else ''
        raise UserError(f'checkpoint {path}{below} does not fit {name}: {difference}')
    lost = [key for key in merging.unexpected
            if key.endswith('.step') and f'{key.removesuffix("step")}logits' in merging.filled]
    if lost:
        raise UserError(f'checkpoint {path} has masks with steps by class statistics, for which {name} has no place '
                        f'({len(lost)}: {", ".join(lost[:3])}): set num_classes of its merger')
    # Masks are in the checkpoint if some of them fit, differ in shape or have no place.
    away = set(masks_among(merging.own)) - set(merging.filled)
    if away and (merging.mismatched or masks_among([*merging.filled, *merging.unexpected])):
        raise UserError(
            f'masks in checkpoint {path} do not fit {name} (another ratio, window or type of merger?): {merging}')
    return difference


def _log_brought(name: str, path: str, difference: Difference, logger: logging.Logger) -> None:
    """What a checkpoint has brought, by count, and what not, by name."""
    filled, own, level = difference.filled, difference.own, logging.INFO
    message = f'Checkpoint {path} fills {len(filled)} of {len(own)} tensors of {name}'
    if masks_among(own):
        filled_statistics, own_statistics = (
            sum(key.endswith('.stats.centroids') for key in keys) for keys in (filled, own))
        message += (f', masks of {len(masks_among(filled))} of {len(masks_among(own))} layers and class statistics of '
                    f'{filled_statistics} of {own_statistics} among them (masks start unlearnt otherwise)')
    if difference.missing or difference.mismatched or difference.unexpected or difference.statistics:
        message, level = f'{message}: {difference}', logging.WARNING
    logger.log(level, message)
