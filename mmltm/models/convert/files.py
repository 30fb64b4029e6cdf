"""Reading other projects' weights without running what is in them, and writing checkpoints for ``load_from``."""

import argparse
import re
from pathlib import Path

import torch
from torch import Tensor

import mmltm
from mmltm.errors import UserError, summary
from mmltm.models.checkpoints import check_file

#: Where training scripts put the weights, averaged ones first: those are what their results are about.
NESTINGS = ('state_dict_ema', 'model_ema', 'state_dict', 'model', 'module')
_WRAPPERS = re.compile(r'^(module\.|_orig_mod\.)+')


def read_weights(path: str) -> tuple[dict[str, Tensor], str]:
    """The tensors of a checkpoint, without the prefixes of wrappers, and the entry they lie below, '' for a bare one.

    Of ``.safetensors``, or what ``torch.save`` writes, of which only tensors are unpickled, so that it cannot run code.
    A UserError says what cannot be read.
    """
    check_file('checkpoint', path)
    try:
        state = _read(path)
    except ImportError as error:
        raise UserError(f'{path} needs the package safetensors: pip install safetensors') from error
    except Exception as error:  # unpickling raises whatever the bytes lead to
        unsafe = re.search(r'Unsupported global: GLOBAL (\S+)', str(error))
        if not unsafe:
            raise UserError(f'cannot read checkpoint {path}: {summary(error)}') from error
        raise UserError(
            f'checkpoint {path} holds more than tensors ({unsafe[1]}), so reading it may run code; if you trust it, '
            "save its weights alone: python -c \"import torch; torch.save(torch.load('SRC', weights_only=False)"
            "['state_dict'], 'NEW')\"") from error
    within, tensors = '', {}
    if isinstance(state, dict):
        within = next((name for name in NESTINGS if isinstance(state.get(name), dict)), '')
        tensors = {_WRAPPERS.sub('', name): value for name, value in (state[within] if within else state).items()
                   if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f'{path} holds no weights: expected a state dict, bare or below {", ".join(NESTINGS)}')
    return tensors, within


def _read(path: str) -> object:
    if path.endswith('.safetensors'):
        from safetensors.torch import load_file
        return load_file(path)
    # Command line arguments lie beside the weights in checkpoints of DeiT and timm.
    torch.serialization.add_safe_globals([argparse.Namespace])
    return torch.load(path, map_location='cpu', weights_only=True)


def write_checkpoint(state: dict[str, Tensor], path: str, **meta: str) -> None:
    """Write weights of ``backbone.`` and ``head.`` for ``load_from``, or ``init_cfg=dict(type='Pretrained', ...)``.

    ``meta`` is what the checkpoint says of itself, beside mmltm's version. Folders are made.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(meta=dict(mmltm_version=mmltm.__version__, **meta), state_dict=state), path)
