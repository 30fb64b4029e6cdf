"""Files of predictions that are whole after each image: an interrupted run leaves what it has done."""

import errno
import os
import os.path as osp
import sys
from collections.abc import Callable, Sequence
from functools import cache
from io import FileIO
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.fileio import dump

from mmltm.apis.coco_audit import check_structure, read_json
from mmltm.apis.data_root import leaf_datasets
from mmltm.apis.dataset_checks import DatasetFiles
from mmltm.errors import UserError


def to_json(value: Any) -> str:
    """In one line; numbers and arrays may be NumPy's."""
    return dump(value, file_format='json')


class GrowingFile:
    """A JSON file that is whole after each call of :meth:`add`, the first of which makes it, over an old one.

    Args:
        path (Path): The file.
        start (str): What it begins with.
        end (Callable): What it ends with for now.
    """

    def __init__(self, path: Path, start: str, end: Callable[[], str]) -> None:
        self._path, self._start, self._end = path, start, end
        self._file: FileIO | None = None
        self._written, self._filled = b'', False

    def add(self, *entries: str) -> None:
        """Appends entries, and makes the end anew; if the disk is full, the file stays as it was."""
        text = self._start * (self._file is None)
        if entries:
            text += ',' * self._filled + '\n' + ',\n'.join(entries)
        if self._file is None:
            self._file = open(self._path, 'wb', buffering=0)
        end, place = self._end().encode(), self._file.tell()
        content = text.encode() + end
        try:  # at once, over the end that was written before
            if self._file.write(content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        except OSError:
            self._file.seek(place)
            self._file.write(self._written)
            self._file.truncate()
            raise
        self._file.seek(-len(end), os.SEEK_END)
        self._written, self._filled = end, self._filled or bool(entries)


class PredictionFile:
    """predictions.json in ``folder``: ``classes``, and of each image, by its name, what the model says.

    Attributes:
        count (int): Images so far.
        skipped (dict): Why an image could not be used, by its name.
    """

    def __init__(self, folder: Path, classes: Sequence[str] | None) -> None:
        self.count, self.skipped = 0, dict[str, str]()
        self._file = GrowingFile(folder / 'predictions.json', f'{{"classes": {to_json(classes)},\n"images": {{',
                                 lambda: f'\n}},\n"skipped": {to_json(list(self.skipped))}}}\n')

    def add(self, number: int, name: str, shape: Sequence[int], found: dict) -> None:
        """Writes what a predictor's ``describe`` has ``found`` in an image, of ``shape`` (H, W, ...)."""
        self._file.add(f'{to_json(name)}: {to_json(found)}')
        self.count += 1

    def skip(self, name: str, reason: str) -> None:
        """Notes an image that cannot be used, and says why."""
        self.skipped[name] = reason
        print(f'skipped {name}: {reason}', file=sys.stderr)
        if self.count:
            self._file.add()


_PLACES = dict(
    bboxes=lambda boxes: [dict(bbox=[x1, y1, x2 - x1, y2 - y1]) for x1, y1, x2, y2 in boxes],
    masks=lambda masks: [dict(segmentation=mask) for mask in masks])


class CocoResults(PredictionFile):
    """Instances in COCO's form of results, which pycocotools' ``loadRes`` reads and COCO's server takes.

    results.bbox.json has the boxes (x, y, width, height), results.segm.json the masks, in the same order: two files as
    tools/test.py writes them, since pycocotools takes the size of an object from its box where a mask comes with one.
    images.json says in COCO's form what the ids of images and categories stand for.

    Args:
        folder (Path): Where the files go.
        classes (Sequence[str]): Their names.
        categories (dict): Ids by label; without them they count from 1.
        images (dict): Ids by name; without them images count from 1.
    """

    def __init__(self, folder: Path, classes: Sequence[str] | None, categories: dict[int, int],
                 images: dict[str, int]) -> None:
        super().__init__(folder, classes)
        self._categories, self._images = categories, images
        listed = [dict(id=self._category(label), name=name) for label, name in enumerate(classes or ())]
        self._file = GrowingFile(folder / 'images.json', f'{{"categories": {to_json(listed)},\n"images": [',
                                 lambda: f'\n],\n"skipped": {to_json(list(self.skipped))}}}\n')
        self._results = {key: GrowingFile(folder / f'results.{kind}.json', '[', lambda: '\n]\n')
                         for kind, key in (('bbox', 'bboxes'), ('segm', 'masks'))}

    def _category(self, label: int) -> int:
        return self._categories.get(label, label + 1)

    def add(self, number: int, name: str, shape: Sequence[int], found: dict) -> None:
        if 'labels' not in found:
            raise UserError('the model predicts no instances: what it predicts has no form here')
        image = self._images.get(name, number)
        # First: pycocotools refuses results for images that are not listed.
        self._file.add(to_json(dict(id=image, file_name=name, height=shape[0], width=shape[1])))
        for key, file in self._results.items():
            if key in found:
                file.add(*(to_json(dict(image_id=image, category_id=self._category(label), score=score, **place))
                           for label, score, place in zip(found['labels'], found['scores'], _PLACES[key](found[key]))))
        self.count += 1


def annotated_ids(cfg: Config, classes: Sequence[str] | None,
                  paths: dict[str, Path]) -> tuple[dict[int, int], dict[str, int], str]:
    """Ids by label and, of images at ``paths``, by name, and what they are.

    They are those in the annotation file of the config's test set. Without this file, or if it lacks a class, there are
    no ids; nor any of images if one of them is not in it.
    """
    folder = cache(osp.realpath)  # of the files themselves it takes long, and links to them are to be found, too

    def place(path: Path | str) -> tuple[str, str]:
        return folder(osp.dirname(path)), osp.basename(path)

    for key, dataset in leaf_datasets(cfg, ['test']):
        files = DatasetFiles(key, dataset)
        if files.remote or not (files.ann_file.endswith('.json') and osp.isfile(files.ann_file)):
            continue
        coco = read_json(files.ann_file)
        check_structure(files.ann_file, coco)
        categories = {category.get('name'): category.get('id') for category in coco['categories']}
        if not classes or not categories.keys() >= set(classes):
            continue
        known = {place(osp.join(files.image_folder, image['file_name'])): image['id']
                 for image in coco['images'] if 'file_name' in image}
        ids = {name: known[place(path)] for name, path in paths.items() if place(path) in known}
        labels = {label: categories[name] for label, name in enumerate(classes)}
        if len(ids) == len(paths) > 0:
            return labels, ids, f'; ids of images and categories are those of {files.ann_file}'
        return labels, {}, f'; ids of images count from 1, those of categories are of {files.ann_file}'
    return {}, {}, '; ids of images and categories count from 1'
