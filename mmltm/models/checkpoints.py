"""Checks of checkpoints: that the file exists, and that it belongs to the model that it is loaded into.

mmengine loads with ``strict=False`` everywhere: a checkpoint of another model is no error there but a
warning of many lines, and a model with random weights.
"""

import logging
import os.path as osp
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.model import is_model_wrapper
from mmengine.runner import CheckpointLoader, Runner, find_latest_checkpoint
from torch import nn

from mmltm.errors import UserError, summary
from mmltm.ib import ClassCentroids

# Part of the weights, masks apart, that a checkpoint to start from must fill. Of a whole model: a new head is common,
# a new backbone a mistake. Of the module whose init_cfg names it: norms of outputs that a classifier has not, or the
# offsets of deformable convolutions, are common, other blocks a mistake.
_MIN_SHARE = 0.5
_MIN_SHARE_OF_MODULE = 0.8
# Left in checkpoints by other tools and older versions, without meaning for the model.
_HARMLESS_EXTRAS = ('ema_', 'data_preprocessor.')


def check_checkpoint_files(cfg: Config) -> None:
    """Checks that all checkpoints the config names as local files exist.

    Raises:
        UserError: One does not.
    """
    if cfg.get('load_from'):
        check_file('checkpoint', cfg.load_from)
    elif cfg.get('resume') and _latest(cfg):
        check_file(f'latest checkpoint of {cfg.work_dir},', _latest(cfg))
    for key, init_cfg in _pretrained('model', cfg.model):
        check_file(f'{key}.checkpoint', init_cfg['checkpoint'])


def _latest(cfg: Config) -> str | None:
    """The checkpoint that mmengine will resume from by itself, if there is one."""
    has_one = osp.isfile(osp.join(cfg.work_dir, 'last_checkpoint'))  # mmengine prints a line if not
    return find_latest_checkpoint(cfg.work_dir) if has_one else None


def check_file(what: str, path: str) -> None:
    """Checks that ``path`` is a file, unless it is a URL or a name in a model zoo.

    Raises:
        UserError: It is not.
    """
    if not is_zoo(path) and not osp.isfile(osp.expanduser(path)):
        raise UserError(f'{what} {path} does not exist')


def is_zoo(path: str) -> bool:
    """Whether ``path`` is a URL or, like ``torchvision://resnet50``, a name in a model zoo."""
    return '://' in path


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


class Difference(NamedTuple):
    """How a checkpoint's state dict differs from a model's."""
    missing: list[str]  # in the model only
    unexpected: list[str]  # in the checkpoint only
    mismatched: list[str]  # of different shapes: key, then these
    statistics: dict[str, str]  # layers whose class statistics, in no other list, are of another kind; of which
    own: list[str]  # all keys of the model

    @property
    def filled(self) -> list[str]:
        """The model's keys that the checkpoint fills."""
        absent = {*self.missing, *(text.split(' ')[0] for text in self.mismatched)}
        anew = tuple(f'{layer}.' for layer in self.statistics)
        return [key for key in self.own if key not in absent and not key.startswith(anew)]

    def part(self, merging: bool) -> 'Difference':
        """The same for the keys of token merging (masks, steps, statistics), or for all the others."""
        lists = {name: [key for key in getattr(self, name) if is_merging(key) == merging]
                 for name in ('missing', 'unexpected', 'mismatched', 'own')}
        return self._replace(**lists, statistics=self.statistics if merging else {})

    def __str__(self) -> str:
        parts = [
            f'{len(keys)} {what} ({", ".join(keys[:3])}{", ..." if len(keys) > 3 else ""})'
            for keys, what in ((self.missing, 'missing in the checkpoint'),
                               (self.mismatched, 'of another shape'),
                               (self.unexpected, 'unknown to the model'),
                               (list(self.statistics.values()), 'statistics of another kind')) if keys
        ]
        return f'of {len(self.own)} keys ' + ', '.join(parts)


def is_merging(key: str) -> bool:
    """Whether a key of a state dict belongs to token merging: mask, step or statistics."""
    return re.search(r'(^|\.)mergers\.', key) is not None


def compare(model: nn.Module, state: dict[str, torch.Tensor]) -> Difference:
    """Loads ``state`` into ``model`` as far as possible and tells what did not fit.

    Loading, rather than comparing names, gives modules their chance to convert older or resized weights.
    """
    own = {key: value for key, value in model.state_dict().items() if not key.endswith('num_batches_tracked')}
    keys, mismatched, statistics = list(own), [], {}
    for name, module in model.named_modules():
        message = module.mismatch(state, f'{name}.') if isinstance(module, ClassCentroids) else None
        if message:
            statistics[name] = message
            own, state = ({key: value for key, value in part.items() if not key.startswith(f'{name}.')}
                          for part in (own, state))
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:  # so PyTorch reports shapes, even if not strict
        missing, unexpected = own.keys() - state.keys(), state.keys() - model.state_dict().keys()
        mismatched = [f'{key} {tuple(state[key].shape)} against {tuple(own[key].shape)}'
                      for key in re.findall(r'size mismatch for ([^\s:]+):', str(error))]
    return Difference(
        sorted(key for key in missing if key in own),
        sorted(key for key in unexpected if not key.startswith(_HARMLESS_EXTRAS)), mismatched, statistics, keys)


def read_checkpoint(path: str) -> dict:
    """Reads a checkpoint, to the CPU.

    Raises:
        UserError: The file does not hold a checkpoint.
    """
    try:
        checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu', logger='silent')
    except Exception as error:  # unpickling raises whatever the bytes lead to
        raise UserError(f'cannot read checkpoint {path}: {summary(error)}') from error
    if not isinstance(checkpoint, dict):
        raise UserError(f'{path} is not a checkpoint: it holds a {type(checkpoint).__name__}, no dict')
    return checkpoint


def state_dict(checkpoint: dict, prefix: str = '') -> dict[str, torch.Tensor]:
    """The weights in ``checkpoint`` below ``prefix``, without the prefixes that wrappers leave."""
    state = checkpoint.get('state_dict', checkpoint)
    state = {re.sub(r'^module\.', '', key): value for key, value in state.items()}
    return {key[len(prefix):]: value for key, value in state.items()
            if key.startswith(prefix) and isinstance(value, torch.Tensor)}


def check_tested(model: nn.Module, path: str, checkpoint: dict, logger: logging.Logger) -> None:
    """Loads the weights of this very model, as a test needs them, and checks that they are.

    It is only logged that all masks are missing: a vanilla checkpoint may be tested with token merging off the
    shelf, whose masks are unlearnt then. So are missing class statistics, and keys that the model does not
    know: a larger model's checkpoint may contain all that is needed.

    Args:
        model (nn.Module): To load into.
        path (str): Of the checkpoint, for messages.
        checkpoint (dict): What :func:`read_checkpoint` gives.
        logger (logging.Logger): For what is not an error.

    Raises:
        UserError: Other keys are missing, or some differ in shape.
    """
    _check_exact(model, path, checkpoint, logger, masks_may_miss=True)


def check_trained(runner: Runner, cfg: Config) -> None:
    """Checks the checkpoints that training starts from, and logs what they bring.

    One to resume from must be of this very model. Pre-trained weights must fill most of the keys that they are meant
    for, and every mask if they hold any.

    Raises:
        UserError: A checkpoint is of another model.
    """
    start, model = cfg.get('load_from'), unwrapped(runner)
    if cfg.get('resume'):
        start = start or _latest(cfg)
        if start:
            _check_resumed(model, start, runner.logger)
        return
    for name, module in model.named_modules():
        if getattr(module, 'is_init', False):  # read while the model was built, and changed since, as by LoRA
            continue
        for _, init_cfg in _pretrained(name, getattr(module, 'init_cfg', None)):
            if not is_zoo(init_cfg['checkpoint']):  # those name their model
                _check_module(name or 'the model', module, init_cfg, runner.logger)
    if start:
        _log_brought('the model', start, _loaded('the model', model, start, '', _MIN_SHARE), runner.logger)


def unwrapped(runner: Runner) -> nn.Module:
    """The runner's model itself, without what distributes it."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def _check_exact(model: nn.Module, path: str, checkpoint: dict, logger: logging.Logger,
                 masks_may_miss: bool = False) -> None:
    difference = compare(model, state_dict(checkpoint))
    merging, found = difference.part(merging=True), _masks(difference.filled)
    if masks_may_miss and merging.missing and not (found and _masks(merging.missing)):
        difference = difference._replace(missing=difference.part(merging=False).missing)
        what = 'class statistics' if found else 'masks: token merging starts unlearnt'
        logger.warning(f'Checkpoint {path} has no {what}')
    if difference.missing or difference.mismatched or difference.statistics:
        raise UserError(f'checkpoint {path} is of another model than the config: {difference}')
    if difference.unexpected:
        logger.warning(f'Checkpoint {path} has more than the model needs: {difference}')


def _check_resumed(model: nn.Module, path: str, logger: logging.Logger) -> None:
    checkpoint = read_checkpoint(path)
    _check_exact(model, path, checkpoint, logger)
    if 'message_hub' not in checkpoint:
        raise UserError(f'cannot resume from {path}, which holds weights but no state of a training: '
                        f'to start from its weights, use --cfg-options load_from={path}')


def _check_module(name: str, module: nn.Module, init_cfg: dict, logger: logging.Logger) -> None:
    """A part of a model whose ``init_cfg`` names a checkpoint, such as the backbone of a detector."""
    path = init_cfg['checkpoint']
    difference = _loaded(name, module, path, init_cfg.get('prefix') or '', _MIN_SHARE_OF_MODULE)
    if difference.part(merging=False).mismatched:
        raise UserError(f'checkpoint {path} does not fit {name}: {difference}')
    _log_brought(name, path, difference, logger)


def _loaded(name: str, module: nn.Module, path: str, prefix: str, min_share: float) -> Difference:
    """Loads a checkpoint to start from as far as it fits, which must be far enough."""
    difference = compare(module, state_dict(read_checkpoint(path), prefix))
    weights, merging = difference.part(merging=False), difference.part(merging=True)
    if len(weights.filled) < min_share * len(weights.own):
        below = f' below {prefix!r}' if prefix else ''
        raise UserError(f'checkpoint {path}{below} does not fit {name}: {difference}')
    lost = [key for key in merging.unexpected if key.endswith('.step') and _mask_of(key) in merging.filled]
    if lost:
        raise UserError(f'checkpoint {path} has masks with steps by class statistics, for which {name} has no place '
                        f'({len(lost)}: {", ".join(lost[:3])}): set num_classes of its merger')
    # Masks are in the checkpoint if some of them fit, differ in shape or have no place.
    away = set(_masks(merging.own)) - set(merging.filled)
    if away and (merging.mismatched or _masks([*merging.filled, *merging.unexpected])):
        raise UserError(
            f'masks in checkpoint {path} do not fit {name} (another ratio, window or type of merger?): {merging}')
    return difference


def _masks(keys: Iterable[str]) -> list[str]:
    return [key for key in keys if key.endswith('.logits') and is_merging(key)]


def _mask_of(step: str) -> str:
    return f'{step.removesuffix("step")}logits'


def _log_brought(name: str, path: str, difference: Difference, logger: logging.Logger) -> None:
    """What a checkpoint has brought, by count, and what not, by name."""
    filled, own, level = difference.filled, difference.own, logging.INFO
    message = f'Checkpoint {path} fills {len(filled)} of {len(own)} tensors of {name}'
    if _masks(own):
        filled_statistics, own_statistics = (
            sum(key.endswith('.stats.centroids') for key in keys) for keys in (filled, own))
        message += (f', masks of {len(_masks(filled))} of {len(_masks(own))} layers and class statistics of '
                    f'{filled_statistics} of {own_statistics} among them (masks start unlearnt otherwise)')
    if difference.missing or difference.mismatched or difference.unexpected or difference.statistics:
        message, level = f'{message}: {difference}', logging.WARNING
    logger.log(level, message)
