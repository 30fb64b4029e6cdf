"""Checks of a config's datasets before a run: their files, and their categories against the model's.

mmdet's NumClassCheckHook compares heads with a dataset's ``metainfo`` when training starts. This comes
earlier, and also compares ``metainfo`` with the annotation file: mmdet passes over a name that the file
lacks, which shifts labels or leaves no ground truth.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS

from mmltm.apis.data_root import leaf_datasets
from mmltm.apis.dataset_files import DatasetFiles, check_evaluator_files
from mmltm.errors import UserError

# Parts of a model whose num_classes does not count the categories of the dataset.
_OTHER_CLASSES = ('backbone', 'neck', 'rpn_head', 'semantic_head', 'task_heads', 'data_preprocessor',
                  'train_cfg', 'test_cfg')


class Categories(NamedTuple):
    """Names of a dataset's categories, and where they are written."""
    names: list[str]
    source: str

    def __str__(self) -> str:
        return f'{len(self.names)} in {self.source} ({some(self.names)})'


def some(names: Sequence[str]) -> str:
    """The first few of ``names``."""
    return ', '.join(names[:5]) + (', ...' if len(names) > 5 else '')


def check_datasets(cfg: Config, splits: Sequence[str]) -> None:
    """Checks all datasets and evaluators of ``splits`` ('train', 'val', 'test').

    Raises:
        UserError: A file is missing, or numbers or names of categories disagree.
    """
    heads = num_classes(cfg)
    for key, dataset in leaf_datasets(cfg, splits):
        files = DatasetFiles(key, dataset)
        if files.remote:
            continue
        files.check_paths()
        listed = _listed_categories(files, must_decode=not key.startswith('train'))
        named = _named_categories(cfg.default_scope, key, dataset)
        if named and listed:
            _compare(key, files, named, listed)
        # Panoptic sets count things apart, open-vocabulary models count words.
        if (named or listed) and 'Panoptic' not in files.kind and not dataset.get('return_classes'):
            _compare_heads(key, named or listed, heads)
    for split in splits:
        check_evaluator_files(cfg, f'{split}_evaluator')


def _listed_categories(files: DatasetFiles, must_decode: bool) -> Categories | None:
    """The categories that the data itself names, by an annotation file or by folders."""
    if files.classes_from_folders:
        return Categories(files.class_folders(), f'folder {files.image_folder}')
    coco = files.read_coco()
    if coco is None:
        return None
    files.check_images(coco, must_decode)
    return Categories([category['name'] for category in coco['categories']], files.ann_file)


def _named_categories(scope: str, key: str, dataset: ConfigDict) -> Categories | None:
    """The categories that the config names, else those that the dataset's class knows."""
    names = (dataset.get('metainfo') or {}).get('classes', dataset.get('classes'))
    if isinstance(names, str):
        try:
            with open(names) as file:
                return Categories(file.read().splitlines(), names)
        except OSError as error:
            raise UserError(f'{key}: classes is the text {names!r}, which names no file; expected a list of '
                            'names, or a file with one name per line') from error
    if names is not None:
        return Categories(list(names), f'{key}.metainfo.classes')
    kind = dataset.type
    if isinstance(kind, str):
        with DATASETS.switch_scope_and_registry(scope) as registry:
            kind = registry.get(kind)
    names = getattr(kind, 'METAINFO', {}).get('classes')
    return Categories(list(names), f'{kind.__name__}.METAINFO') if names else None


def _compare(key: str, files: DatasetFiles, named: Categories, listed: Categories) -> None:
    """Compares the categories that the config names with those of the data."""
    remedy = 'set metainfo=dict(classes=(...)) to the categories of your data'
    if files.classes_from_folders:
        if len(named.names) != len(listed.names):
            raise UserError(f'{key}: the numbers of classes differ, {listed}, but {named}: {remedy}')
        return
    absent = [name for name in named.names if name not in listed.names]
    if absent:
        raise UserError(f'{key}: categories {some(absent)} are not in the annotations; {listed}, but '
                        f'{named}: {remedy}, and num_classes of the heads to their number')
    in_file_order = [name for name in listed.names if name in named.names]
    # CocoDataset numbers its labels in the file's order, whatever the order of the names.
    if files.kind == 'CocoDataset' and in_file_order != named.names:
        raise UserError(f'{key}: {named.source} must follow the order of {listed.source}: '
                        f'{some(in_file_order)}')


def _compare_heads(key: str, categories: Categories, heads: dict[str, int]) -> None:
    count = len(categories.names)
    wrong = {part: number for part, number in heads.items() if number != count}
    if wrong:
        parts = ', '.join(f'{part}={number}' for part, number in wrong.items())
        options = ' '.join(f'{part}={count}' for part in wrong)
        raise UserError(f'the model has {parts}, but {key} has {count} categories, from {categories.source}: '
                        f'make them agree, e.g. by --cfg-options {options}')


def num_classes(cfg: Config) -> dict[str, int]:
    """Every ``num_classes`` that must equal the dataset's number of categories, by its key in the config."""
    found = dict(_walk_num_classes('model', cfg.model))
    preprocessor = cfg.get('data_preprocessor') or {}
    # Mixup and CutMix make their targets of it.
    if 'num_classes' in preprocessor and (cfg.model.get('train_cfg') or {}).get('augments'):
        found['data_preprocessor.num_classes'] = preprocessor.num_classes
    return found


def _walk_num_classes(key: str, value) -> Iterable[tuple[str, int]]:
    if isinstance(value, (list, tuple)):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return
    for name, item in value.items():
        if name == 'num_classes' and isinstance(item, int):
            yield f'{key}.{name}', item
        elif name not in _OTHER_CLASSES:
            yield from _walk_num_classes(f'{key}.{name}', item)
