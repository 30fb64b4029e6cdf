"""Checks of mmseg's data sets before a run: each image has a label map of its size, with labels of its classes."""

import inspect
import os.path as osp
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import ConfigDict
from PIL import Image

from mmltm.errors import UserError, summary
from mmltm.structures.class_distribution import IGNORED

# Label maps that are read before a run, evenly spread over a set.
_READ = 50
_ORIENTATION = 0x0112  # of EXIF: from 5 on height is width


def check_label_maps(key: str, dataset: ConfigDict, kind: Any, ann_file: str, classes: int | None) -> set[str]:
    """Checks the label maps of the dataset at ``key`` of a config; returns the paths of its images.

    Args:
        key (str): Of the dataset in the config.
        dataset (ConfigDict): Its config.
        kind (type): Its class, one of mmseg's.
        ann_file (str): Path of the file that names its images; empty where all of a folder are meant.
        classes (int, optional): How many are told apart in the files.

    Raises:
        UserError: There is no image, a file is missing, or a label map that is read is of another size than its image
            or holds what is no label.
    """
    def setting(name: str, default: Any) -> Any:
        known = inspect.signature(kind).parameters.get(name)
        return dataset.get(name, default if known is None else known.default)

    images, maps = (Path(dataset.get('data_root') or '', dataset.data_prefix.get(name) or '')
                    for name in ('img_path', 'seg_map_path'))
    suffixes = setting('img_suffix', '.jpg'), setting('seg_map_suffix', '.png')
    names = [line.strip() for line in Path(ann_file).read_text().splitlines()] if ann_file else sorted(
        str(path.relative_to(images))[:-len(suffixes[0])] for path in images.rglob(f'*{suffixes[0]}'))
    paths = {str(images / (name + suffixes[0])): str(maps / (name + suffixes[1])) for name in names}
    if not paths:
        raise UserError(f'{key}: no image {images}/*{suffixes[0]}; other endings: img_suffix')
    labelled = any(step.get('type') == 'LoadAnnotations' for step in dataset.get('pipeline') or ())
    for what, files in (('image', list(paths)), ('label map', list(paths.values()) if labelled else [])):
        missing = [path for path in files if not osp.isfile(path)]
        if missing:
            raise UserError(f'{key}: {len(missing)} of {len(files)} {what}s do not exist, first {missing[0]}; other '
                            'endings: img_suffix and seg_map_suffix')
    for image, path in list(paths.items())[::-(-len(paths) // _READ)] if labelled else ():
        _check(key, image, path, classes, bool(setting('reduce_zero_label', False)))
    return set(paths)


def _check(key: str, image: str, path: str, classes: int | None, reduces: bool) -> None:
    try:
        with Image.open(path) as file:
            labels = np.asarray(file)
    except Exception as error:  # of whatever kind a decoder raises
        raise UserError(f'{key}: cannot decode label map {path} ({summary(error)}): replace the file') from error
    if labels.ndim != 2 or labels.dtype.kind not in 'uib':
        raise UserError(f'{key}: label map {path} is a picture in colours, expected one whole number a pixel')
    with suppress(OSError, Image.DecompressionBombError):  # training leaves out what cannot be decoded
        with Image.open(image) as file:
            turned = file.getexif().get(_ORIENTATION, 1) > 4
            width, height = file.size[::-1] if turned else file.size
        if labels.shape != (height, width):
            raise UserError(f'{key}: label map {path} is of {labels.shape[1]} x {labels.shape[0]} pixels, its image of '
                            f'{width} x {height}')
    values = np.unique(labels)
    first, last = int(reduces), None if classes is None else classes - 1 + int(reduces)
    wrong = [] if last is None else [value for value in values if value != IGNORED and value > last]
    if wrong:
        zero = ', 0 and' if first else ' and'
        raise UserError(f'{key}: label map {path} holds {wrong[0]}, but the {classes} classes are {first} to {last}'
                        f'{zero} {IGNORED} what is left out')
