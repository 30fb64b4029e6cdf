"""Whether the parts of a config that every tool reads are of the types it relies on."""

from typing import Any

from mmengine.config import Config

from mmltm.errors import UserError

# Each part has a tuple of the types that it may be of, with None if it may be missing. A dict says of which types its
# parts are, those of any name below ``str``; a list, of which its entries are.
_MAYBE_TEXT, _MAYBE_DICT = (str, None), (dict, None)
_DATASET: dict[Any, tuple] = {
    'type': (str, type), 'data_root': _MAYBE_TEXT, 'ann_file': _MAYBE_TEXT, 'split': _MAYBE_TEXT,
    'data_prefix': (str, {str: (str, )}, None), 'metainfo': ({'classes': (str, [str], None)}, None),
    'classes': (str, [str], None), 'pipeline': ([dict], None)}
_DATASET.update(dataset=(_DATASET, None), datasets=([_DATASET], None))
_METRIC = {'type': (str, type, None), 'ann_file': _MAYBE_TEXT}  # an evaluator of ``metrics`` needs no type
_CONFIG = {
    'model': ({'backbone': _MAYBE_DICT, 'train_cfg': _MAYBE_DICT}, None),
    **{f'{split}_dataloader': ({'dataset': (_DATASET, )}, None) for split in ('train', 'val', 'test')},
    **{f'{split}_evaluator': (_METRIC, [_METRIC], None) for split in ('val', 'test')},
    **dict.fromkeys(('data_preprocessor', 'train_cfg', 'val_cfg', 'test_cfg', 'auto_scale_lr', 'strategy', 'tta_model',
                     'visualizer', 'env_cfg', 'randomness', 'log_processor', 'model_wrapper_cfg'), _MAYBE_DICT),
    'optim_wrapper': ({'type': (str, type, None)}, None), 'param_scheduler': (dict, [dict], None),
    'custom_hooks': ([dict], None), 'default_hooks': ({str: ({'type': (str, type)}, None)}, None),
    'tta_pipeline': ([dict], None),
    **dict.fromkeys(('data_root', 'work_dir', 'load_from'), _MAYBE_TEXT)}
_WORDS = {None: 'None', str: 'a text', dict: 'a dict', type: 'a class'}


def check_types(path: str, cfg: Config) -> None:
    """Raises a UserError for the first part of a config, read from ``path``, that is of another type."""
    _check(path, '', cfg._cfg_dict, (_CONFIG, ))


def _check(path: str, key: str, value: Any, allowed: tuple) -> None:
    for kind in allowed:
        if isinstance(kind, dict) and isinstance(value, dict):
            for name, below in kind.items():
                for part in value if name is str else [name]:
                    _check(path, f'{key}.{part}', value.get(part), below)
            return
        if isinstance(kind, list) and isinstance(value, (list, tuple)):
            for i, item in enumerate(value):
                _check(path, f'{key}.{i}', item, tuple(kind))
            return
        if isinstance(value, kind) if isinstance(kind, type) else value is kind:
            return
    raise UserError(f'config {path}: {key[1:]} is {"missing or None" if value is None else f"{value!r:.60}"}, expected '
                    f'{" or ".join(dict.fromkeys(map(_in_words, allowed)))}')


def _in_words(kind: Any) -> str:
    if isinstance(kind, list):
        return f'a list of {_in_words(kind[0]).removeprefix("a ")}s'
    return _WORDS[dict if isinstance(kind, dict) else kind]
