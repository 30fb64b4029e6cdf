"""Reading other projects' weights without running what is in them, and writing checkpoints for ``load_from``."""

import re
from pathlib import Path

import torch
from torch import Tensor

import mmltm
from mmltm.errors import UserError
from mmltm.models.checkpoints import check_file
from mmltm.models.safe_loading import load_from_local

#: Where training scripts put the weights, averaged ones first: those are what their results are about.
NESTINGS = ('state_dict_ema', 'model_ema', 'state_dict', 'model', 'module')
_WRAPPERS = re.compile(r'^(module\.|_orig_mod\.)+')


def read_weights(path: str) -> tuple[dict[str, Tensor], str]:
    """The tensors of a checkpoint, without the prefixes of wrappers, and the entry they lie below, '' for a bare one.

    Of ``.safetensors``, or what ``torch.save`` writes, without running code in it. A UserError says what is wrong.
    """
    check_file('checkpoint', path)
    state = load_from_local(path)
    within, tensors = '', {}
    if isinstance(state, dict):
        within = next((name for name in NESTINGS if isinstance(state.get(name), dict)), '')
        tensors = {_WRAPPERS.sub('', name): value for name, value in (state[within] if within else state).items()
                   if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f'{path} holds no weights: expected a state dict, bare or below {", ".join(NESTINGS)}')
    return tensors, within


def write_checkpoint(state: dict[str, Tensor], path: str, **meta: str) -> None:
    """Write weights of ``backbone.`` and ``head.`` for ``load_from``, or ``init_cfg=dict(type='Pretrained', ...)``.

    ``meta`` is what the checkpoint says of itself, beside mmltm's version. Folders are made.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(meta=dict(mmltm_version=mmltm.__version__, **meta), state_dict=state), path)
