"""Whether what ``--cfg-options`` sets exists: a misspelt key would be merged into the config, and read by nobody."""

import difflib
import inspect
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

from mmengine import registry
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.runner import LogProcessor, Runner
from torch import nn
from torch.utils.data import DataLoader

from mmltm.apis.cli import NewKey
from mmltm.errors import UserError
from mmltm.merging import Merger
from mmltm.models.mergers import TOKEN_MERGERS

_REGISTRIES = (registry.MODELS, registry.DATASETS, registry.TRANSFORMS, registry.HOOKS, registry.METRICS,
               registry.OPTIM_WRAPPERS, registry.OPTIMIZERS, registry.PARAM_SCHEDULERS, registry.LOOPS,
               registry.VISUALIZERS, registry.DATA_SAMPLERS, registry.TASK_UTILS)


def _parameters(kind: Any) -> set[str]:
    """Names that a class's constructor takes, with those that it hands on to its base; ``**`` if it takes any."""
    names = {'type', '_delete_', '_scope_'}
    for base in inspect.getmro(kind) if inspect.isclass(kind) else (kind,):
        function = base.__dict__.get('__init__') if inspect.isclass(base) else base
        if function is None:
            continue
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):  # written in C
            return names | {'**'}
        names |= {parameter.name for parameter in parameters if parameter.kind != parameter.VAR_KEYWORD}
        if base is nn.Module or not any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
            return names
    return names | {'**'}


# What mmengine, mmdet and mmpretrain read at the top level of a config, and in its parts that name no type.
TOP_LEVEL = _parameters(Runner) | {
    'auto_scale_lr', 'compile', 'custom_imports', 'data_preprocessor', 'efficient_conv_bn_eval',
    'find_unused_parameters', 'model_wrapper_cfg', 'runner_type', 'strategy', 'sync_bn', 'tta_model', 'tta_pipeline'}
_LOOP = {'type', 'by_epoch', 'max_epochs', 'max_iters', 'val_begin', 'val_interval', 'dynamic_intervals', 'fp16'}
_UNTYPED = dict(
    {f'{split}_dataloader': _parameters(DataLoader) | {'num_batch_per_epoch'} for split in ('train', 'val', 'test')},
    optim_wrapper=_parameters(OptimWrapper), train_cfg=_LOOP, val_cfg=_LOOP, test_cfg=_LOOP,
    auto_scale_lr={'base_batch_size', 'enable'},
    default_hooks={'runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint', 'visualization'},
    randomness={'seed', 'diff_rank_seed', 'deterministic'}, log_processor=_parameters(LogProcessor),
    env_cfg={'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'})
_FREE_FORM = ('custom_keys', 'metainfo')
# What a backbone says to its mergers itself, and what the plan of its blocks takes off their config.
_PLANNED = {'source', 'target', 'embed_dims', 'first', 'base', 'whole', 'groups', 'index', 'depth', 'mlp_ratio'}
_PLANS = {'ratio', 'r', 'p', 'window', 'rounding', 'img_size', 'position'}


def _class_of(kind: Any, scope: str) -> Any:
    """The class that a type names, whichever registry has it; None if none has."""
    if not isinstance(kind, str):
        return kind
    for parent in _REGISTRIES:
        with parent.switch_scope_and_registry(scope) as here:
            if found := here.get(kind):
                return found
    return TOKEN_MERGERS.get(kind)


def _known(cfg: Config, path: str, kind: Any) -> set[str]:
    """Keys that may be set in a part of the config, of this type, beyond those that it has; ``**`` if any."""
    if not path:
        return TOP_LEVEL
    if kind:
        kind = _class_of(kind, cfg.get('default_scope', 'mmengine'))
        if inspect.isclass(kind) and issubclass(kind, Merger):
            return _parameters(kind) - _PLANNED | _PLANS
        return _parameters(kind) if kind else {'**'}
    return {'**'} if path.rpartition('.')[2] in _FREE_FORM else _UNTYPED.get(path, set())


def check_keys(cfg: Config, options: Mapping[str, Any]) -> None:
    """Raises a UserError for a dotted key that the config does not have and nothing in it would read."""
    for key in options:
        if isinstance(key, NewKey):
            continue
        parts, value = key.split('.'), cfg._cfg_dict
        for i, part in enumerate(parts):
            path = '.'.join(parts[:i])
            if isinstance(value, (list, tuple)):
                if not (part.isdigit() and int(part) < len(value)):
                    raise UserError(f'--cfg-options {key}: {path} is a list of {len(value)} entries, numbered from 0, '
                                    f'and {part} is none of them')
                value = value[int(part)]
            elif isinstance(value, dict) and part in value:
                value = value[part]
            elif isinstance(value, dict):
                known = {*_known(cfg, path, options.get(f'{path}.type', value.get('type'))), *value}
                if not {part, '**'} & known:
                    raise UserError(f'--cfg-options {key}: nothing reads {".".join(parts[:i + 1])}'
                                    f'{_suggestion(cfg, parts, i, known)} (a key that is new: --cfg-options-new)')
                if part != 'merger':
                    break
                value = dict(type='LTM')  # by default
            elif value is None:  # an argument that is set to None may become a dict
                break
            else:
                raise UserError(f'--cfg-options {key}: {path} is {value!r}, which has nothing below')


def _suggestion(cfg: Config, parts: list[str], i: int, known: set[str]) -> str:
    near = difflib.get_close_matches(parts[i], sorted(known), n=1)
    whole = ['.'.join([*parts[:i], near[0], *parts[i + 1:]])] if near else difflib.get_close_matches(
        '.'.join(parts), [path for path, _ in walk('', cfg._cfg_dict)], n=1)
    return f'; did you mean {whole[0]}?' if whole else ''


def walk(key: str, value: Any, without: Container[str] = ()) -> Iterator[tuple[str, Any]]:
    """Yields a value, and each in its nested dicts and lists but below the names ``without``, with its dotted key."""
    yield key, value
    items: Iterable = value.items() if isinstance(value, dict) else enumerate(value) \
        if isinstance(value, (list, tuple)) else ()
    for name, item in items:
        if name not in without:
            yield from walk(f'{key}.{name}' if key else str(name), item, without)


def nested_dicts(key: str, value: Any, without: Container[str] = ()) -> Iterator[tuple[str, dict]]:
    """The dicts of :func:`walk`."""
    return ((name, part) for name, part in walk(key, value, without) if isinstance(part, dict))


def _unscoped(value: Any) -> Any:
    """A nested value without the scopes that mmengine notes in what comes from another package's config."""
    if isinstance(value, dict):
        return {key: _unscoped(item) for key, item in value.items() if key != '_scope_'}
    return [_unscoped(item) for item in value] if isinstance(value, (list, tuple)) else value


def follow_variables(cfg: Config, options: dict) -> dict:
    """Options for names that a config file only uses within itself (``train_pipeline``), for where it has put them.

    When the file has been read, another value of such a name changes nothing. Lists and dicts are changed at each place
    that holds the same.

    Raises:
        UserError: A name stands for a number or text, whose places cannot be told.
    """
    result: dict = {}
    for key, value in options.items():
        name, _, below = key.partition('.')
        result[key] = value
        if name in TOP_LEVEL or name not in cfg or isinstance(key, NewKey):
            continue
        if name == 'data_root':
            raise UserError(f'--cfg-options {key}: the data sets have read it already: use --data-root DIR')
        places = [path for path, item in walk('', cfg._cfg_dict) if path.partition('.')[0] in TOP_LEVEL
                  and type(item) is type(cfg[name]) and _unscoped(item) == _unscoped(cfg[name])]
        if not isinstance(cfg[name], (dict, list, tuple)):
            hint = f', one of {", ".join(places[:3])}' if places else ''
            raise UserError(f'--cfg-options {key}: {name} is a name within the config file, which has been read '
                            f'already: set what is made of it{hint}')
        result.update({f'{place}.{below}' if below else place: value for place in places if cfg[name]})
    return result
