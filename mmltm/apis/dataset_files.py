"""The files that a dataset of a config reads, and whether they are there.

Folders are listed, images are not opened. Remote storage (``backend_args``, URLs) is not looked at.
"""

import json
import os
import os.path as osp
from collections import defaultdict

from mmengine.config import Config, ConfigDict
from mmengine.utils import is_abs

from mmltm.errors import UserError, summary

MINI_SET_HINT = ('; or make the mini set: python tools/dataset_converters/make_mini_coco.py generate '
                 'data/mini_coco, and pass --data-root data/mini_coco')
# These fetch their files themselves.
_DOWNLOADING = ('CIFAR10', 'CIFAR100', 'MNIST', 'FashionMNIST')
# mmpretrain's datasets whose sub-folders are the classes when there is no annotation file.
_FOLDERS_AS_CLASSES = ('ImageNet', 'ImageNet21k', 'CustomDataset')


def is_remote(path: str, owner: ConfigDict) -> bool:
    """Whether ``path``, a setting of ``owner``, is read through a storage backend."""
    return '://' in path or bool(owner.get('backend_args'))


def check_evaluator_files(cfg: Config, key: str) -> None:
    """Checks the annotation files of the evaluator ``cfg[key]``.

    Raises:
        UserError: A file does not exist.
    """
    metrics = cfg.get(key) or []
    for metric in metrics if isinstance(metrics, (list, tuple)) else [metrics]:
        path = metric.get('ann_file')
        if path and not is_remote(path, metric) and not osp.isfile(path):
            raise UserError(f'{key}: annotation file {path} does not exist')


class DatasetFiles:
    """Where one dataset finds its annotations and images.

    Args:
        key (str): The dataset's key in the config, for messages.
        dataset (ConfigDict): The dataset's config.

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
        """Checks that root, annotation file and image folders exist.

        Raises:
            UserError: One does not; the message tells the expected layout.
        """
        if self.root and not osp.isdir(self.root):
            raise self._missing('dataset folder', self.root)
        if self.ann_file and not osp.isfile(self.ann_file):
            raise self._missing('annotation file', self.ann_file)
        for folder in self.prefixes:
            if not osp.isdir(folder):
                raise self._missing('image folder', folder)

    def _missing(self, what: str, path: str) -> UserError:
        parts = [self.ann_file] if self.ann_file else []
        images = '<class>/<image>' if self.classes_from_folders else '<image>'
        parts += [osp.join(folder, images) for folder in self.prefixes]
        layout = f'expected {" and ".join(parts)}; ' if parts else ''
        hint = MINI_SET_HINT if self.kind == 'CocoDataset' else ''
        return UserError(f'{self.key}: {what} {path} does not exist; {layout}'
                         f'say where your data lies by --data-root DIR{hint}')

    def read_coco(self) -> dict | None:
        """The annotation file's content if it is in COCO's format, else None.

        Raises:
            UserError: The file is not valid JSON.
        """
        if not self.ann_file.endswith('.json'):
            return None
        try:
            with open(self.ann_file) as file:
                content = json.load(file)
        except ValueError as error:
            raise UserError(f'cannot read annotation file {self.ann_file}: {summary(error)}') from error
        is_coco = isinstance(content, dict) and {'images', 'categories'} <= content.keys()
        return content if is_coco else None

    def class_folders(self) -> list[str]:
        """Names of the sub-folders of the image folder."""
        return sorted(entry.name for entry in os.scandir(self.image_folder) if entry.is_dir())

    def check_images(self, coco: dict, must_decode: bool) -> None:
        """Checks that all images of ``coco`` exist.

        Args:
            coco (dict): Content of the annotation file.
            must_decode (bool): Also refuse empty files, the trace of an interrupted download. (Training
                leaves out what it cannot decode, a test cannot.)

        Raises:
            UserError: Images are missing or empty; the message counts them and names the first.
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
