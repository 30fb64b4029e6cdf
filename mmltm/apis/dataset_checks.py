"""Checks of a config's datasets before a run: their files, and their categories against the model's.

mmdet's NumClassCheckHook compares heads with ``metainfo`` when training starts. This comes earlier, and also compares
``metainfo`` with the annotation file: mmdet passes over a name that the file lacks, which shifts labels or leaves no
ground truth. Folders are listed, images are not opened. Remote storage (``backend_args``, URLs) is not looked at.
"""

import json
import os
import os.path as osp
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS
from mmengine.utils import is_abs

from mmltm.apis.config import nested_dicts
from mmltm.apis.data_root import leaf_datasets
from mmltm.errors import UserError, summary

# Parts of a model whose num_classes does not count the categories of the dataset.
_OTHER_CLASSES = ('backbone', 'neck', 'rpn_head', 'semantic_head', 'task_heads', 'data_preprocessor',
                  'train_cfg', 'test_cfg')
MINI_SET_HINT = ('; or make the mini set: python tools/dataset_converters/make_mini_coco.py generate '
                 'data/mini_coco, and pass --data-root data/mini_coco')
# These fetch their files themselves.
_DOWNLOADING = ('CIFAR10', 'CIFAR100', 'MNIST', 'FashionMNIST')
# mmpretrain's datasets whose sub-folders are the classes when there is no annotation file.
_FOLDERS_AS_CLASSES = ('ImageNet', 'ImageNet21k', 'CustomDataset')


def is_remote(path: str, owner: ConfigDict) -> bool:
    """Whether ``path``, a setting of ``owner``, is read through a storage backend."""
    return '://' in path or bool(owner.get('backend_args'))


class DatasetFiles:
    """Where the dataset at ``key`` of a config finds its annotations and images.

    Attributes:
        kind (str): Name of the dataset's class.
        ann_file (str): Path of the annotation file; empty if there is none.
        prefixes (list[str]): Paths of the folders with images (and maps).
        classes_from_folders (bool): Whether the sub-folders of the image folder are the classes.
        remote (bool): Whether the files are out of sight: elsewhere, or yet to be downloaded.
    """

    def __init__(self, key: str, dataset: ConfigDict):
        self.key = key
        self.kind = dataset.type.split('.')[-1] if isinstance(dataset.type, str) else dataset.type.__name__
        self.root = dataset.get('data_root') or ''
        self.remote = self.kind in _DOWNLOADING or is_remote(self.root, dataset)
        prefix = dataset.get('data_prefix') or {}
        prefixes: dict[str, str] = dict(img_path=prefix) if isinstance(prefix, str) else dict(prefix)
        ann_file = dataset.get('ann_file') or ''
        if self.kind == 'ImageNet' and dataset.get('split'):  # as that class completes its arguments
            prefixes = prefixes or dict(img_path=dataset.split)
            listing = osp.join('meta', f'{dataset.split}.txt')
            if not ann_file and osp.isfile(self._below_root(listing)):
                ann_file = listing
        self.ann_file = self._below_root(ann_file) if ann_file else ''
        self.prefixes = [self._below_root(path) for path in prefixes.values()]
        self.image_folder = self._below_root(prefixes.get('img') or prefixes.get('img_path') or '')
        self.classes_from_folders = (
            self.kind in _FOLDERS_AS_CLASSES and not self.ann_file and dataset.get('with_label', True))

    def _below_root(self, path: str) -> str:
        return path if is_abs(path) else osp.join(self.root, path)

    def check_paths(self) -> None:
        """Checks that root, annotation file and image folders exist; the error tells the expected layout."""
        wanted = [('dataset folder', self.root, osp.isdir), ('annotation file', self.ann_file, osp.isfile),
                  *(('image folder', folder, osp.isdir) for folder in self.prefixes)]
        for what, path, exists in wanted:
            if (path or what == 'image folder') and not exists(path):
                images = '<class>/<image>' if self.classes_from_folders else '<image>'
                parts = [self.ann_file] * bool(self.ann_file) + [osp.join(folder, images) for folder in self.prefixes]
                layout = f'expected {" and ".join(parts)}; ' if parts else ''
                hint = MINI_SET_HINT if self.kind == 'CocoDataset' else ''
                raise UserError(f'{self.key}: {what} {path} does not exist; {layout}'
                                f'say where your data lies by --data-root DIR{hint}')

    def read_coco(self) -> dict | None:
        """The annotation file's content if it is in COCO's format, else None; an error if it is no JSON."""
        if not self.ann_file.endswith('.json'):
            return None
        try:
            with open(self.ann_file) as file:
                content = json.load(file)
        except ValueError as error:
            raise UserError(f'cannot read annotation file {self.ann_file}: {summary(error)}') from error
        return content if isinstance(content, dict) and {'images', 'categories'} <= content.keys() else None

    def check_images(self, coco: dict, must_decode: bool) -> None:
        """Checks that all images of ``coco`` exist; the error counts those that do not.

        With ``must_decode`` empty files, the trace of an interrupted download, are refused, too. (Training leaves out
        what it cannot decode, a test cannot.)
        """
        folders = defaultdict(list)
        for image in coco['images']:
            if 'file_name' in image:  # LVIS has none
                path = osp.join(self.image_folder, image['file_name'])
                folders[osp.dirname(path)].append(path)
        missing, empty = [], []
        for folder, paths in folders.items():
            # One listing per folder: asking for each file takes minutes on network storage.
            present = set(os.listdir(folder)) if osp.isdir(folder) else set()
            missing += [path for path in paths if osp.basename(path) not in present]
            if must_decode and not missing:
                empty += [path for path in paths if osp.getsize(path) == 0]
        for paths, what in ((missing, 'do not exist'), (empty, 'are empty files')):
            if paths:
                raise UserError(f'{self.key}: {len(paths)} of {len(coco["images"])} images listed in '
                                f'{self.ann_file} {what}, first {", ".join(paths[:3])}')


class Categories(NamedTuple):
    """Names of a dataset's categories, and where they are written."""
    names: list[str]
    source: str

    def __str__(self) -> str:
        return f'{len(self.names)} in {self.source} ({_some(self.names)})'


def _some(names: Sequence[str]) -> str:
    return ', '.join(names[:5]) + (', ...' if len(names) > 5 else '')


def check_datasets(cfg: Config, splits: Sequence[str]) -> None:
    """Checks all files of datasets and evaluators of ``splits`` ('train', 'val', 'test'), and that categories agree."""
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
        known = named or listed
        # Panoptic sets count things apart, open-vocabulary models count words.
        if known and 'Panoptic' not in files.kind and not dataset.get('return_classes'):
            _compare_heads(key, known, heads)
    for key in (f'{split}_evaluator' for split in splits):
        metrics = cfg.get(key) or []
        for metric in metrics if isinstance(metrics, (list, tuple)) else [metrics]:
            path = metric.get('ann_file')
            if path and not is_remote(path, metric) and not osp.isfile(path):
                raise UserError(f'{key}: annotation file {path} does not exist')


def _listed_categories(files: DatasetFiles, must_decode: bool) -> Categories | None:
    """The categories that the data itself names, by an annotation file or by folders."""
    if files.classes_from_folders:
        folders = sorted(entry.name for entry in os.scandir(files.image_folder) if entry.is_dir())
        return Categories(folders, f'folder {files.image_folder}')
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
        raise UserError(f'{key}: categories {_some(absent)} are not in the annotations; {listed}, but '
                        f'{named}: {remedy}, and num_classes of the heads to their number')
    in_file_order = [name for name in listed.names if name in named.names]
    # CocoDataset numbers its labels in the file's order, whatever the order of the names.
    if files.kind == 'CocoDataset' and in_file_order != named.names:
        raise UserError(f'{key}: {named.source} must follow the order of {listed.source}: '
                        f'{_some(in_file_order)}')


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
    found = {f'{key}.num_classes': part['num_classes'] for key, part in nested_dicts('model', cfg.model, _OTHER_CLASSES)
             if isinstance(part.get('num_classes'), int)}
    preprocessor = cfg.get('data_preprocessor') or ConfigDict()
    # Mixup and CutMix make their targets of it.
    if 'num_classes' in preprocessor and (cfg.model.get('train_cfg') or {}).get('augments'):
        found['data_preprocessor.num_classes'] = preprocessor.num_classes
    return found
