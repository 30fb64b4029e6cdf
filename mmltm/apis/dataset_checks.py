"""Checks of a config's datasets before a run: their files and annotations, and their categories against the model's.

mmdet's NumClassCheckHook compares heads with ``metainfo`` when training starts. This comes earlier, looks through
annotation files (:mod:`~mmltm.apis.coco_audit`), and compares names **and their order**: between data sets, and with
what the config says. Remote storage (``backend_args``, URLs) is not looked at.
"""

import os
import os.path as osp
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS
from mmengine.utils import is_abs
from rich.console import Console

from mmltm.apis.cli import make_table
from mmltm.apis.coco_audit import audit, check_structure, read_json
from mmltm.apis.coco_checks import Finding
from mmltm.apis.coco_files import audit_files
from mmltm.apis.config_keys import nested_dicts
from mmltm.apis.data_root import leaf_datasets
from mmltm.apis.label_map_checks import check_label_maps
from mmltm.apis.listing_checks import check_listing
from mmltm.apis.readers import class_folders
from mmltm.errors import UserError

# Parts of a model whose num_classes does not count the categories of the dataset.
_OTHER_CLASSES = ('backbone', 'neck', 'rpn_head', 'semantic_head', 'task_heads', 'data_preprocessor',
                  'train_cfg', 'test_cfg')
MINI_SET_HINT = ('; or make the mini set: python tools/dataset_converters/make_mini_coco.py generate '
                 'data/mini_coco, and pass --data-root data/mini_coco')
_CHECK_COCO = 'python tools/dataset_converters/check_coco.py'
# These fetch their files themselves.
_DOWNLOADING = ('CIFAR10', 'CIFAR100', 'MNIST', 'FashionMNIST')
# mmpretrain's datasets whose sub-folders are the classes if there is no annotation file, and what are images to them.
_FOLDERS_AS_CLASSES = ('ImageNet', 'ImageNet21k', 'CustomDataset')
_EXTENSIONS = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')
# Images whose headers are opened before a run, evenly spread over a set; check_coco.py opens all.
_HEADERS = 2000


def is_remote(path: str, owner: ConfigDict) -> bool:
    """Whether ``path``, a setting of ``owner``, is read through a storage backend."""
    return '://' in path or bool(owner.get('backend_args'))


class DatasetFiles:
    """Where the dataset at ``key`` of a config finds its annotations and images.

    Attributes:
        kind (str): Name of the dataset's class.
        ann_file (str): Path of the annotation file; empty if there is none.
        prefixes (list[str]): Paths of the folders with images (and maps).
        images (set[str]): Paths of the images, as far as it names them, or of their folder.
        classes_from_folders (bool): Whether the sub-folders of the image folder are the classes.
        listing (bool): Whether the annotation file is a text of names and labels.
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
        labelled = self.kind in _FOLDERS_AS_CLASSES and dataset.get('with_label', True)
        self.classes_from_folders, self.listing = labelled and not self.ann_file, labelled and bool(self.ann_file)
        self.images = {self.image_folder} if self.classes_from_folders else set()

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
                hint = MINI_SET_HINT if self.kind in ('CocoDataset', 'BaseSegDataset') else ''
                raise UserError(f'{self.key}: {what} {path} does not exist; {layout}say where your data '
                                f'lies by --data-root DIR, or by its ann_file and data_prefix{hint}')


class Categories(NamedTuple):
    """Names of a dataset's categories, and where they are written."""
    names: list[str]
    source: str

    def __str__(self) -> str:
        return f'{len(self.names)} in {self.source} ({_some(self.names)})'


def _some(names: Sequence[str]) -> str:
    return ', '.join(names[:5]) + (', ...' if len(names) > 5 else '')


class Labels(NamedTuple):
    """What the labels of a dataset stand for."""
    names: list[str]  # as the config has them, and checkpoints keep them
    order: list[str]  # what decides which label is which: categories in the order of the file, or folders
    source: str  # of the order


def check_datasets(cfg: Config, splits: Sequence[str]) -> dict[str, Labels]:
    """Checks all files of datasets and evaluators of ``splits`` ('train', 'val', 'test'), and that categories agree.

    Returns what the labels stand for, by the dataset's key in the config, as far as they are in sight.
    """
    found = []
    for key, dataset in leaf_datasets(cfg, splits):
        files = DatasetFiles(key, dataset)
        if files.remote:
            continue
        files.check_paths()
        split, kind = key.partition('_')[0], _dataset_class(cfg.default_scope, dataset)
        coco = _read_annotations(cfg, split, files, dataset, kind)
        if coco is not None:
            _check_evaluators(cfg, split, files, coco)
            files.images = {osp.join(files.image_folder, name) for image in coco['images']
                            if isinstance(name := image.get('file_name'), str)}
        # Panoptic sets count things apart, open-vocabulary models count words.
        counted = 'Panoptic' not in files.kind and not dataset.get('return_classes')
        named = _named_categories(key, dataset, kind)
        listed = _listed_categories(files, coco)
        if cfg.default_scope == 'mmseg' and kind is not None and (dataset.get('data_prefix') or {}).get('seg_map_path'):
            in_files = getattr(kind, 'METAINFO', {}).get('classes') or (named.names if named else ())
            files.images = check_label_maps(key, dataset, kind, files.ann_file, len(in_files) or None)
            listed = named
        if files.listing:
            counts = [len(named.names)] if named else list(num_classes(cfg).values())
            check_listing(key, files.ann_file, files.image_folder, counts[0] if counts else None)
        found.append((files, named, listed, counted))
        del coco  # there is room for one large file
    _compare_images([files for files, *_ in found])
    labels: dict[str, Labels] = {}
    for files, named, listed, counted in found:
        if listed and counted:
            order = [name for name in listed.names
                     if named is None or files.classes_from_folders or name in named.names]
            labels[files.key] = Labels(named.names if named else listed.names, order, listed.source)
            first = next(iter(labels.values()))
            if files.classes_from_folders and order != first.order:
                _refuse_folders(files, first, labels[files.key])
    heads = num_classes(cfg)
    for files, named, listed, counted in found:
        if named and listed:
            _compare(cfg, files, named, listed)
        if counted and (known := named or listed):
            _compare_heads(files.key, known, heads)
    _compare_labels(labels)
    for split in splits:
        for metric in _metrics(cfg, split):
            path = metric.get('ann_file')
            if path and not is_remote(path, metric) and not osp.isfile(path):
                raise UserError(f'{split}_evaluator: annotation file {path} does not exist')
    return labels


def _metrics(cfg: Config, split: str) -> list:
    metrics = cfg.get(f'{split}_evaluator') or []
    return list(metrics) if isinstance(metrics, (list, tuple)) else [metrics]


def _dataset_class(scope: str, dataset: ConfigDict) -> Any:
    """The class of a dataset; None if no registry knows it."""
    if not isinstance(dataset.type, str):
        return dataset.type
    with DATASETS.switch_scope_and_registry(scope) as registry, suppress(RuntimeError):  # of what is no name at all
        return registry.get(dataset.type)
    return None


def _read_annotations(cfg: Config, split: str, files: DatasetFiles, dataset: ConfigDict, kind: Any) -> dict | None:
    """The content of an annotation file in COCO's format, looked through; None for another format."""
    instances = 'CocoDataset' in [base.__name__ for base in getattr(kind, '__mro__', ())] and \
        'Panoptic' not in files.kind
    if not files.ann_file or not (instances or files.ann_file.endswith('.json')):
        return None
    coco = read_json(files.ann_file)
    if instances:
        check_structure(files.ann_file, coco)
    elif not (isinstance(coco, dict) and {'images', 'categories'} <= coco.keys()):
        return None
    parts = [part for _, part in nested_dicts(files.key, dataset)]
    masks = any(part.get('with_mask') for part in parts) or any(
        'segm' in str(metric.get('metric')) for metric in _metrics(cfg, split))
    labelled = split == 'train' or not any(metric.get('format_only') for metric in _metrics(cfg, split))
    upright = not any(part.get('color_type') in ('unchanged', 'color_ignore_orientation') for part in parts)
    findings = audit(coco, masks, labelled) if instances else []
    # Training leaves out what it cannot decode, a test cannot.
    findings += audit_files(coco, files.image_folder, _HEADERS, may_be_empty=split == 'train', upright=upright)
    _report(files.key, files.ann_file, findings)
    return coco


def _report(key: str, path: str, findings: list[Finding]) -> None:
    """Raises a UserError with the first finding that stops a run; prints a table of the others."""
    fatal = [finding for finding in findings if finding.check.fatal]
    if fatal:
        more = f', and {len(fatal) - 1} other kinds of defects' if fatal[1:] else ''
        raise UserError(f'{key}: {path}: {fatal[0]}{more} (--fix repairs what it can: {_CHECK_COCO} {path} --fix OUT)')
    if findings:
        table = make_table(f'{key}: {path}', ('warning', 'count', 'first', 'remedy'), texts=4)
        for f in findings:
            table.add_row(f.name + f.note, f'{len(f.rows)} of {f.total}', f.ids, f.check.remedy)
        Console(stderr=True).print(table)


def _check_evaluators(cfg: Config, split: str, files: DatasetFiles, coco: dict) -> None:
    """Compares images and categories that metrics know with those of the dataset, where they read another file."""
    for metric in _metrics(cfg, split) if split != 'train' else ():
        path = metric.get('ann_file')
        if not (str(metric.get('type')).endswith('CocoMetric') and path and not is_remote(path, metric)
                and osp.isfile(path)) or osp.realpath(path) == osp.realpath(files.ann_file):
            continue
        other = read_json(path)
        check_structure(path, other)
        _report(f'{split}_evaluator', path, audit(other, 'segm' in str(metric.get('metric'))))
        for part, key in (('images', 'id'), ('categories', 'name')):
            unknown = {item[key] for item in coco[part]} - {item[key] for item in other[part]}
            if unknown:
                raise UserError(f'{split}_evaluator: {path} lacks {len(unknown)} of {len(coco[part])} {part} of '
                                f'{files.ann_file}: let the evaluator read the file of the dataset')


def _listed_categories(files: DatasetFiles, coco: dict | None) -> Categories | None:
    """The categories that the data itself names, by an annotation file or by folders."""
    if not files.classes_from_folders:
        return Categories([category['name'] for category in coco['categories']], files.ann_file) if coco else None
    folders = class_folders(files.image_folder)
    empty = [name for name in folders if not _has_image(osp.join(files.image_folder, name))]
    if len(empty) == len(folders):
        raise UserError(f'{files.key}: no sub-folder of {files.image_folder} holds an image; expected '
                        f'{osp.join(files.image_folder, "<class>/<image>")}')
    if empty:
        Console(stderr=True).print(f'warning: {files.key}: {len(empty)} of {len(folders)} classes have no image in '
                                   f'{files.image_folder}: {_some(empty)}', soft_wrap=True)
    return Categories(folders, f'folder {files.image_folder}')


def _has_image(folder: str) -> bool:
    return any(name.lower().endswith(_EXTENSIONS) for _, _, names in os.walk(folder) for name in names)


def _refuse_folders(files: DatasetFiles, first: Labels, labels: Labels) -> None:
    lists = [f'only in {here.source}: {_some(names)}' for here, there in ((first, labels), (labels, first))
             if (names := [name for name in here.order if name not in there.order])]
    raise UserError(f'{files.key}: classes are numbered by the names of folders, which differ: {"; ".join(lists)}: '
                    'rename them, or make the missing ones, empty where there is no image')


def _compare_images(found: list[DatasetFiles]) -> None:
    """Warns where images to validate or test with are among those to train with: they tell nothing of others."""
    trained = set().union(*(files.images for files in found if files.key.startswith('train')))
    for files in found:
        common = files.images & trained if not files.key.startswith('train') else ()
        if common:
            Console(stderr=True).print(
                f'warning: {files.key}: {len(common)} of {len(files.images)} images or folders are trained with as '
                f'well, first {min(common)}: metrics on them tell nothing of other images', soft_wrap=True)


def _compare_labels(labels: dict[str, Labels]) -> None:
    """Compares what the labels of all datasets stand for with those of the first."""
    pairs = list(labels.items())
    for other, its in pairs[1:]:
        key, first = pairs[0]
        if first.names != its.names:
            differs = next((i for i, (a, b) in enumerate(zip(first.names, its.names)) if a != b), 'number')
            raise UserError(f'{other} has other classes than {key}, first at {differs}: {_some(its.names)}, against '
                            f'{_some(first.names)}: name the same in the same order in metainfo.classes of all')


def _named_categories(key: str, dataset: ConfigDict, kind: Any) -> Categories | None:
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
    names = getattr(kind, 'METAINFO', {}).get('classes')
    return Categories(list(names), f'{kind.__name__}.METAINFO') if names else None


def _compare(cfg: Config, files: DatasetFiles, named: Categories, listed: Categories) -> None:
    """Compares the categories that the config names with those of the data."""
    remedy = 'set metainfo=dict(classes=(...)) to the categories of your data'
    if files.classes_from_folders:
        if len(named.names) != len(listed.names):
            raise UserError(f'{files.key}: the numbers of classes differ, {listed}, but {named}: {remedy}')
        return
    absent = [name for name in named.names if name not in listed.names]
    if absent:
        raise UserError(f'{files.key}: categories {_some(absent)} are not in the annotations; {listed}, but '
                        f'{named}: {remedy}, and num_classes of the heads to their number')
    in_file_order = [name for name in listed.names if name in named.names]
    # CocoDataset numbers its labels in the file's order, whatever the order of the names.
    if files.kind == 'CocoDataset' and in_file_order != named.names:
        if files.key.startswith('train'):
            raise UserError(f'{files.key}: labels follow the order of {listed.source}, {named.source} another: set '
                            f'metainfo.classes of all data sets to {_some(in_file_order)}')
        train = next((DatasetFiles(key, dataset).ann_file for key, dataset in leaf_datasets(cfg, ['train'])), 'TRAIN')
        raise UserError(f'{files.key}: labels follow the order of {listed.source} ({_some(in_file_order)}), not that '
                        f'of {named.source} ({_some(named.names)}): sort its categories as in the file that the model '
                        f'is trained on: {_CHECK_COCO} {files.ann_file} --like {train} --fix OUT')


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
