"""Checks of checkpoints: that the file exists, and that it belongs to the model that it is loaded into.

mmengine loads with ``strict=False`` everywhere: a checkpoint of another model is no error there but a
warning of many lines, and a model with random weights.
"""

import logging
import os.path as osp
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from mmengine.runner import CheckpointLoader
from torch import nn

from mmltm.errors import UserError
from mmltm.ib import ClassCentroids
from mmltm.models.safe_loading import load_from_local, refusal

# Left in checkpoints by other tools and older versions, without meaning for the model.
_HARMLESS_EXTRAS = ('ema_', 'data_preprocessor.')
# Part of the weights, masks apart, that a checkpoint to start from must fill. Of a whole model: a new head is common,
# a new backbone a mistake. Of a part of it: norms of outputs that a classifier has not, or the offsets of deformable
# convolutions, are common, other blocks a mistake.
MIN_SHARE = 0.5
MIN_SHARE_OF_MODULE = 0.8


def check_file(what: str, path: str) -> None:
    """Raises a UserError unless ``path`` is a checkpoint that can be read, a URL or a name in a model zoo.

    Tensors are not read, so it takes no time; a file of the format before PyTorch 1.6 is read whole.
    """
    if is_zoo(path):
        return
    if not osp.isfile(osp.expanduser(path)):
        raise UserError(f'{what} {path} ' + (
            'is a folder: if it is DeepSpeed\'s, the zero_to_fp32.py in it makes weights to start from'
            if osp.isdir(osp.expanduser(path)) else 'does not exist'))
    load_from_local(path, mmap=True)


def is_zoo(path: str) -> bool:
    """Whether ``path`` is a URL or, like ``torchvision://resnet50``, a name in a model zoo."""
    return '://' in path


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
        sorted(key for key in missing if key in own and key not in state),  # else the model knows better
        sorted(key for key in unexpected if not key.startswith(_HARMLESS_EXTRAS)), mismatched, statistics, keys)


def read_checkpoint(path: str) -> dict:
    """Reads a checkpoint, to the CPU; a UserError if the file does not hold any, or if it holds code."""
    try:
        checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu', logger='silent')
    except UserError:
        raise
    except Exception as error:  # of a download
        raise refusal(f'checkpoint {path}', error) from error
    if not isinstance(checkpoint, dict):
        raise UserError(f'{path} is not a checkpoint: it holds a {type(checkpoint).__name__}, no dict')
    state = checkpoint.get('state_dict', checkpoint)
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise UserError(f'{path} is not a checkpoint: its state_dict is no dict of names')
    return checkpoint


def dataset_meta(checkpoint: dict) -> dict:
    """What a checkpoint says of the data it was trained on, such as ``classes``; empty if nothing."""
    meta: Any = checkpoint.get('meta')
    meta = meta if isinstance(meta, dict) else {}
    found = meta.get('dataset_meta')
    found = found if isinstance(found, dict) else {'classes': meta.get('CLASSES')}  # as mmdet 2 has it
    found = {str(key).lower(): value for key, value in found.items()}
    names = found.get('classes')
    if not (isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)):
        found.pop('classes', None)
    return found


def state_dict(checkpoint: dict, prefix: str = '') -> dict[str, torch.Tensor]:
    """The weights in ``checkpoint`` below ``prefix``, without the prefixes that wrappers leave."""
    state = checkpoint.get('state_dict', checkpoint)
    state = {re.sub(r'^module\.', '', key): value for key, value in state.items() if _is_weight(value)}
    return {key[len(prefix):]: value for key, value in state.items() if key.startswith(prefix)}


def _is_weight(value: Any) -> bool:
    """Whether it is a tensor that a parameter can take over: with data, dense and real."""
    return (isinstance(value, torch.Tensor) and value.layout is torch.strided and not value.is_meta
            and not value.is_quantized and not value.is_nested and not value.is_complex())


def check_tested(model: nn.Module, path: str, checkpoint: dict, logger: logging.Logger,
                 masks_may_miss: bool = True) -> None:
    """Loads what :func:`read_checkpoint` gave for ``path``; a UserError if it is not of this very model.

    Keys that the model does not know are only logged: a larger model's checkpoint may contain all that is needed. With
    ``masks_may_miss`` so is that all masks, or the class statistics, are missing: a vanilla checkpoint may be tested
    with token merging off the shelf, whose masks are unlearnt then.
    """
    difference = compare(model, state_dict(checkpoint))
    _check_numbers(model, path, difference)
    merging, found = difference.part(merging=True), masks_among(difference.filled)
    if masks_may_miss and merging.missing and not (found and masks_among(merging.missing)):
        difference = difference._replace(missing=difference.part(merging=False).missing)
        what = 'class statistics' if found else 'masks: token merging starts unlearnt'
        logger.warning(f'Checkpoint {path} has no {what}')
    if difference.missing or difference.mismatched or difference.statistics:
        raise UserError(f'checkpoint {path} is of another model than the config: {difference}')
    if difference.unexpected:
        logger.warning(f'Checkpoint {path} has more than the model needs: {difference}')


def _check_numbers(module: nn.Module, path: str, difference: Difference) -> None:
    """A UserError if weights that have been loaded from ``path`` are no numbers, as of a training that has diverged."""
    filled = set(difference.filled)
    broken = [name for name, weight in module.named_parameters() if name in filled and weight.isnan().any()]
    if broken:
        raise UserError(f'checkpoint {path} has NaN in {len(broken)} of {len(difference.own)} weights, '
                        f'first {broken[0]}: that training has diverged; take an earlier checkpoint')


def masks_among(keys: Iterable[str]) -> list[str]:
    """The keys of masks."""
    return [key for key in keys if key.endswith('.logits') and is_merging(key)]


def load_start(name: str, module: nn.Module, path: str, state: dict[str, torch.Tensor],
               min_share: float = MIN_SHARE_OF_MODULE) -> Difference:
    """Loads what a checkpoint holds for a module, under its names, as far as it fits; a UserError if not far enough.

    It must fill ``min_share`` of the weights, masks apart. A part of a model must fit in shape, too.
    """
    difference = compare(module, state)
    _check_numbers(module, path, difference)
    weights, merging = difference.part(merging=False), difference.part(merging=True)
    if len(weights.filled) < min_share * len(weights.own) or (
            min_share == MIN_SHARE_OF_MODULE and weights.mismatched):
        raise UserError(f'checkpoint {path} does not fit {name}: {difference}')
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


def log_brought(name: str, path: str, difference: Difference, logger: logging.Logger) -> None:
    """Logs what a checkpoint has brought, by count, and what not, by name."""
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
