"""The datasets of a config, and moving all of them to another folder."""

import os.path as osp
from collections.abc import Iterable, Iterator
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.utils import is_abs

from mmltm.errors import UserError

SPLITS = ('train', 'val', 'test')
# mmengine and mmdet read these below the dataset's data_root unless they are absolute.
_BELOW_ROOT = ('ann_file', 'data_prefix', 'proposal_file')


def leaf_datasets(cfg: Config, splits: Iterable[str] = SPLITS) -> Iterator[tuple[str, ConfigDict]]:
    """Yields each dataset that reads files, inside whatever wrappers, with its key in the config.

    Example key: ``train_dataloader.dataset.datasets[1]`` (the second part of a ConcatDataset).
    """
    def leaves(key: str, dataset: ConfigDict) -> Iterator[tuple[str, ConfigDict]]:
        if 'datasets' in dataset:
            for i, part in enumerate(dataset.datasets):
                yield from leaves(f'{key}.datasets[{i}]', part)
        elif 'dataset' in dataset:
            yield from leaves(f'{key}.dataset', dataset.dataset)
        else:
            yield key, dataset

    for key in (f'{split}_dataloader' for split in splits):
        if cfg.get(key):
            yield from leaves(f'{key}.dataset', cfg[key].dataset)


def data_roots(cfg: Config) -> set[str]:
    """Every folder that the config reads its data from: its datasets' ``data_root`` and its own."""
    roots = {dataset.get('data_root') for _, dataset in leaf_datasets(cfg)} | {cfg.get('data_root')}
    return {root for root in roots if root}


def relocate(cfg: Config, new_root: str, old_roots: set[str]) -> None:
    """Points all datasets and evaluators of ``cfg`` at ``new_root``, in place.

    A dataset's ``data_root`` becomes ``new_root``, and every path below one of ``old_roots`` (such as the ``ann_file``
    of an evaluator) the same path below ``new_root``. Other paths stay. A dataset without ``data_root`` is an error:
    nothing tells which part of its paths to replace.
    """
    new_root = osp.expanduser(new_root)
    if not is_abs(new_root):  # relative paths in a dataset would be joined to data_root once more
        new_root = osp.abspath(new_root)
    innermost_first = sorted(map(osp.normpath, old_roots), key=len, reverse=True)

    def move(value: Any, keep_relative: bool = False) -> Any:
        """A nested value, in all strings of which an old root has become the new one."""
        if isinstance(value, dict):
            return type(value)({name: move(item, keep_relative) for name, item in value.items()})
        if isinstance(value, (list, tuple)):
            return type(value)(move(item, keep_relative) for item in value)
        if isinstance(value, str) and not (keep_relative and not is_abs(value)):
            path = osp.normpath(value)
            for root in innermost_first:
                if path == root:
                    return new_root
                if path.startswith(root + osp.sep):
                    return osp.join(new_root, path[len(root) + 1:])
        return value

    for key, dataset in leaf_datasets(cfg):
        if not dataset.get('data_root'):
            raise UserError(f'--data-root cannot move {key}, which has no data_root: '
                            'set its paths by --cfg-options')
        for name, value in dataset.items():
            dataset[name] = move(value, keep_relative=name in _BELOW_ROOT)
        dataset.data_root = new_root
    for name in ('val_evaluator', 'test_evaluator'):
        if cfg.get(name):
            cfg[name] = move(cfg[name])
    if 'data_root' in cfg:
        cfg.data_root = new_root
