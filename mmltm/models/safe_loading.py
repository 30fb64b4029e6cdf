"""Reading checkpoints, pickles and YAML files without running the code that may be in them.

PyTorch's reader for weights takes tensors and plain data; what trainings of mmengine leave beside them is allowed here,
by name (more: ``torch.serialization.add_safe_globals``). Importing this puts these readers in the place of mmengine's
own (``load_from``, ``resume``, ``Pretrained``, model zoos, ``mmengine.load``), which run whatever a file says.
"""

import argparse
import functools
import io
import json
import os
import os.path as osp
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO
from urllib.parse import urlparse

import mmengine.runner.checkpoint
import numpy as np
import torch
import yaml
from mmengine.fileio import PickleHandler, YamlHandler, register_handler
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

from mmltm.errors import UserError, summary

#: Compressed records of a checkpoint may become this many times the file; PyTorch writes them uncompressed.
MAX_INFLATION = 20
#: Where ``.safetensors`` of ours keep, as JSON, what a checkpoint has in ``meta``.
META = 'mmltm'


def _named(path: str, function: Callable) -> Callable:
    """A stand-in for a function, which PyTorch's reader knows by this name."""
    def call(*args: Any) -> Any:
        return function(*args)

    call.__module__, _, call.__name__ = path.rpartition('.')
    call.__qualname__ = call.__name__
    return call


def _statistic(owner: Any, name: str) -> Callable:
    """A method that a ``HistoryBuffer`` registers; nothing else may be had by ``getattr``."""
    if owner is not HistoryBuffer or name not in ('min', 'max', 'current', 'mean'):
        raise pickle.UnpicklingError(f'GLOBAL builtins.getattr of {owner!r}')
    return getattr(owner, name)


class _DType:
    """Stands for a ``numpy.dtype`` while a pickle is read, whose own state may say that numbers are addresses."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.dtype = np.dtype(code)
        if self.dtype.kind not in 'biufcSUO':
            raise pickle.UnpicklingError(f'GLOBAL numpy.dtype of {code!r}')

    def __setstate__(self, state: tuple) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for an array while a pickle is read; NumPy itself believes what a pickle says of shape and type."""
    array = np.zeros(0)

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, fortran, content = state
        order: Any = 'F' if fortran else 'C'
        if kind.dtype.hasobject:
            self.array = np.fromiter(_finish(content), object, len(content)).reshape(shape, order=order)
        else:
            self.array = np.ndarray(shape, kind.dtype, content, order=order).copy('K')


def _finish(value: Any) -> Any:
    """What a pickle held, with arrays in place of those that stood for them."""
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, dict):
        value.update({key: _finish(item) for key, item in value.items()})
    elif isinstance(value, list):
        value[:] = map(_finish, value)
    elif type(value) is tuple:
        return tuple(map(_finish, value))
    elif isinstance(value, (HistoryBuffer, argparse.Namespace)):
        _finish(vars(value))
    return value


# Under the names of NumPy 1 and 2.
_ARRAYS: dict[str, Callable] = {'numpy.ndarray': _Array, 'numpy.dtype': _DType}
_scalar: Any = np.float64(0).__reduce__()[0]
for _module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
    _ARRAYS[f'{_module}._reconstruct'] = _Array
    _ARRAYS[f'{_module}.scalar'] = lambda kind, *content: _scalar(kind.dtype, *content)
# Logs of a training (numbers of numpy among them), and the command lines that DeiT and timm keep.
torch.serialization.add_safe_globals([
    HistoryBuffer, _named('builtins.getattr', _statistic), *(_named(*item) for item in _ARRAYS.items()), _Array, _DType,
    slice, argparse.Namespace])


def load_from_local(path: str, map_location: Any = 'cpu', mmap: bool = False) -> Any:
    """What a checkpoint holds, of ``.safetensors`` or of ``torch.save``; with ``mmap`` tensors are not read yet.

    A UserError says in one line why the file cannot be read, or which code it holds.
    """
    path = osp.expanduser(path)
    try:
        return _load(path, map_location, mmap)
    except ImportError as error:
        raise UserError(f'{path} needs the package safetensors: pip install safetensors') from error
    except Exception as error:  # unpickling raises whatever the bytes lead to
        raise refusal(f'checkpoint {path}', error) from error


def refusal(what: str, error: Exception) -> UserError:
    """In one line; PyTorch goes on for several, and advises to run what is in the file."""
    code = re.search(r'GLOBAL (\S+)|unrecognized function (.+?)(?: which|\n|$)', str(error))
    if code:
        return UserError(
            f'{what} holds more than tensors ({code[1] or code[2]}), so reading it may run code; if you trust it, save '
            "its weights alone: python -c \"import torch; torch.save(torch.load('SRC', weights_only=False)"
            "['state_dict'], 'NEW')\"")
    reason = re.search(r'WeightsUnpickler error: (.+)', str(error))
    return UserError(f'cannot read {what}: {reason[1] if reason else summary(error).partition(". ")[0]}')


def _load(path: str, map_location: Any, mmap: bool) -> Any:
    if path.endswith('.safetensors'):
        from safetensors import safe_open
        from safetensors.torch import load_file
        with safe_open(path, 'pt') as file:
            meta = (file.metadata() or {}).get(META)
        return load_file(path) if meta is None else dict(state_dict=load_file(path), meta=json.loads(meta))
    with open(path, 'rb') as file:
        start = file.read(200)
    if not start:
        raise UserError('the file is empty')
    if not re.search(rb'[\0-\x08\x0e-\x1f\x7f]', start):  # nor would any pickle or archive do without these
        raise UserError(f'it is a text, which begins with {start[:40].decode(errors="replace")!r}')
    archive = zipfile.is_zipfile(path)
    if start.startswith(b'PK') and not archive:
        raise UserError('it is cut short or damaged')
    if archive:
        inflated = sum(record.file_size for record in zipfile.ZipFile(path).infolist())
        if inflated > MAX_INFLATION * osp.getsize(path):
            raise UserError(f'its records would inflate to {inflated:,} bytes')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of kinds of pickles that it may fail to read
        return _finish(torch.load(path, map_location=map_location, weights_only=True, mmap=mmap and archive))


def _load_url(url: str, model_dir: str | None = None, map_location: Any = None, progress: bool = True) -> Any:
    """Downloads once, into torch's folder of checkpoints; of ``NAME-0a1b2c3d.pth`` the file must have that hash."""
    path = osp.join(model_dir or osp.join(torch.hub.get_dir(), 'checkpoints'), osp.basename(urlparse(url).path))
    if not osp.isfile(path):
        os.makedirs(osp.dirname(path), exist_ok=True)
        found = re.search(r'-(?=\d*[a-f])([a-f\d]{8,})\.', path)  # digits alone are a date
        torch.hub.download_url_to_file(url, path, found[1] if found else None, progress)
    return load_from_local(path, map_location)


def _load_hub(name: str, map_location: Any = None) -> Any:
    """``hf://OWNER/REPOSITORY/FILE``, of the Hugging Face Hub, with ``@REVISION`` behind it if not the newest."""
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise UserError(f'{name} needs the package huggingface_hub: pip install "mmltm[hub]"') from error
    path, _, revision = name.removeprefix('hf://').partition('@')
    owner, repository, file = (*path.split('/', 2), '', '')[:3]
    if not file:
        raise UserError(f'{name} names no file: expected hf://OWNER/REPOSITORY/FILE')
    return load_from_local(hf_hub_download(f'{owner}/{repository}', file, revision=revision or None), map_location)


mmengine.runner.checkpoint.load_url = _load_url
CheckpointLoader.register_scheme(prefixes='hf://', loader=_load_hub, force=True)
CheckpointLoader.register_scheme(prefixes='', loader=load_from_local, force=True)
if hasattr(mmengine.runner.checkpoint, '_safe_torch_load'):  # of the maintained fork, for its cloud storages
    mmengine.runner.checkpoint._safe_torch_load = functools.partial(torch.load, weights_only=True)


def _load_storage(content: bytes) -> Any:
    """The storage of a tensor that plain pickling has wrapped; PyTorch's own function runs any code in it."""
    try:
        return torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:  # as above
        raise refusal('a pickled tensor', error) from error


class DataUnpickler(pickle._Unpickler):
    """Reads arrays, tensors and plain data; a UserError names any other class or function.

    It is the one in Python: for the one in C a few bytes are enough to make room for gigabytes.
    """
    allowed = {
        **_ARRAYS, 'torch.storage._load_from_bytes': _load_storage,
        'torch._utils._rebuild_tensor_v2': torch._utils._rebuild_tensor_v2}  # type: ignore[attr-defined]

    def find_class(self, module: str, name: str) -> Any:
        path = f'{module}.{name}'
        if path in self.allowed:
            return self.allowed[path]
        if path in ('collections.OrderedDict', '_codecs.encode', 'builtins.set', 'builtins.slice'):
            return super().find_class(module, name)
        raise UserError(f'a pickle holds more than data ({path}), so reading it may run code: save its data as JSON')


@register_handler(['pickle', 'pkl'])
class DataPickleHandler(PickleHandler):
    """mmengine's handler of pickles (proposals, predictions, annotations), of data alone."""

    def load_from_fileobj(self, file: BinaryIO, **kwargs: Any) -> Any:
        return _finish(DataUnpickler(file, **kwargs).load())


@register_handler(['yaml', 'yml'])
class DataYamlHandler(YamlHandler):
    """mmengine's handler of YAML, of data alone: PyYAML's full loader constructs any object that a tag names."""

    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        return yaml.load(file, **{'Loader': yaml.SafeLoader, **kwargs})
