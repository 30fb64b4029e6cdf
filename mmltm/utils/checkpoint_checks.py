"""Checks of checkpoints: that the file exists, and that it belongs to the model that it is loaded into.

mmengine loads with ``strict=False`` everywhere: a checkpoint of another model is no error there but a
warning of many lines, and a model with random weights.
"""

import os.path as osp
import re
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

import torch
from mmengine.config import Config
from mmengine.model import is_model_wrapper
from mmengine.runner import CheckpointLoader, Runner, find_latest_checkpoint
from torch import nn

from mmltm.utils.errors import UserError, summary

# Part of the parameters that pre-trained weights must fill: a new head is common, a new backbone a mistake.
_MIN_SHARE = 0.5
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


def _latest(cfg: Config) -> Optional[str]:
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


def _pretrained(key: str, value) -> Iterator[Tuple[str, dict]]:
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
    missing: List[str]  # in the model only
    unexpected: List[str]  # in the checkpoint only
    mismatched: List[str]  # of different shapes, with these
    total: int  # keys in the model

    @property
    def share(self) -> float:
        """Part of the model's keys that the checkpoint fills."""
        return 1 - (len(self.missing) + len(self.mismatched)) / max(self.total, 1)

    def __str__(self) -> str:
        parts = [
            f'{len(keys)} {what} ({", ".join(keys[:3])}{", ..." if len(keys) > 3 else ""})'
            for keys, what in ((self.missing, 'missing in the checkpoint'),
                               (self.mismatched, 'of another shape'),
                               (self.unexpected, 'unknown to the model')) if keys
        ]
        return f'of {self.total} keys ' + ', '.join(parts)


def compare(model: nn.Module, state: Dict[str, torch.Tensor]) -> Difference:
    """Loads ``state`` into ``model`` as far as possible and tells what did not fit.

    Loading, rather than comparing names, gives modules their chance to convert older or resized weights.
    """
    own = {key: value for key, value in model.state_dict().items() if not key.endswith('num_batches_tracked')}
    mismatched = []
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:  # so PyTorch reports shapes, even if not strict
        missing, unexpected = own.keys() - state.keys(), state.keys() - model.state_dict().keys()
        mismatched = [f'{key} {tuple(state[key].shape)} against {tuple(own[key].shape)}'
                      for key in re.findall(r'size mismatch for ([^\s:]+):', str(error))]
    return Difference(
        sorted(key for key in missing if key in own),
        sorted(key for key in unexpected if not key.startswith(_HARMLESS_EXTRAS)), mismatched, len(own))


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


def state_dict(checkpoint: dict, prefix: str = '') -> Dict[str, torch.Tensor]:
    """The weights in ``checkpoint`` below ``prefix``, without the prefixes that wrappers leave."""
    state = checkpoint.get('state_dict', checkpoint)
    state = {re.sub(r'^module\.', '', key): value for key, value in state.items()}
    return {key[len(prefix):]: value for key, value in state.items()
            if key.startswith(prefix) and isinstance(value, torch.Tensor)}


def check_tested(runner: Runner, path: str) -> None:
    """Checks that ``path`` holds the weights of this very model, as a test needs them.

    Missing masks are only logged: a vanilla checkpoint may be tested with token merging off the shelf, whose masks are
    local averages then. So are keys that the model does not know: a larger model's checkpoint may contain all that is
    needed.

    Raises:
        UserError: Other keys are missing, or some differ in shape.
    """
    _check_exact(runner, path, read_checkpoint(path), masks_may_miss=True)


def check_trained(runner: Runner, cfg: Config) -> None:
    """Checks the checkpoints that training starts from.

    One to resume from must be of this very model. Pre-trained weights must fill at least half of the keys
    that they are meant for.

    Raises:
        UserError: A checkpoint is of another model.
    """
    start = cfg.get('load_from')
    if cfg.get('resume'):
        start = start or _latest(cfg)
        if start:
            _check_resumed(runner, start)
        return
    model = _unwrapped(runner)
    for name, module in model.named_modules():
        for _, init_cfg in _pretrained(name, getattr(module, 'init_cfg', None)):
            if not is_zoo(init_cfg['checkpoint']):  # those name their model
                prefix = init_cfg.get('prefix') or ''
                _check_share(name or 'the model', module, init_cfg['checkpoint'], prefix)
    if start:
        _check_share('the model', model, start)


def _unwrapped(runner: Runner) -> nn.Module:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def _check_exact(runner: Runner, path: str, checkpoint: dict, masks_may_miss: bool = False) -> None:
    difference = compare(_unwrapped(runner), state_dict(checkpoint))
    masks = [key for key in difference.missing if '.mergers.' in key]
    if masks and masks_may_miss:
        difference = difference._replace(missing=[key for key in difference.missing if key not in masks])
        runner.logger.warning(f'Checkpoint {path} has no masks: token merging starts at local averages')
    if difference.missing or difference.mismatched:
        raise UserError(f'checkpoint {path} is of another model than the config: {difference}')
    if difference.unexpected:
        runner.logger.warning(f'Checkpoint {path} has more than the model needs: {difference}')


def _check_resumed(runner: Runner, path: str) -> None:
    checkpoint = read_checkpoint(path)
    _check_exact(runner, path, checkpoint)
    if 'message_hub' not in checkpoint:
        raise UserError(f'cannot resume from {path}, which holds weights but no state of a training: '
                        f'to start from its weights, use --cfg-options load_from={path}')


def _check_share(name: str, module: nn.Module, path: str, prefix: str = '') -> None:
    difference = compare(module, state_dict(read_checkpoint(path), prefix))
    if difference.share < _MIN_SHARE:
        below = f' below {prefix!r}' if prefix else ''
        raise UserError(f'checkpoint {path}{below} does not fit {name}: {difference}')
