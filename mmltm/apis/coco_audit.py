"""An audit of a file in COCO's format: what is wrong with its images, categories, boxes and masks, kind by kind.

mmdet and pycocotools trust such a file: they pass over what they cannot use, or fail when all inference is done. Each
kind of defect, an entry of :data:`~mmltm.apis.coco_checks.CHECKS`, is found for all items at once: 900,000 annotations
take seconds.
"""

import gc
import json
import os.path as osp
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from mmltm.apis.coco_checks import CHECKS, PARTS, Finding, first
from mmltm.errors import UserError, summary

# Annotations whose masks are looked at together: as many as fit a processor's cache.
_BLOCK = 20_000
#: Nobody reads larger images (OpenCV by default neither), for whose masks pycocotools would take all memory.
MAX_PIXELS = 2**30


def read_json(path: str) -> Any:
    """The content of a JSON file; a UserError if it is none, and a word beforehand where that takes long."""
    size = osp.getsize(path) >> 20
    if size > 20:
        Console(stderr=True).print(f'Reading {path} ({size} MB) ...', soft_wrap=True)
    try:
        with open(path, encoding='utf-8') as file, _no_collection():
            return json.load(file)
    except (ValueError, RecursionError) as error:
        raise UserError(f'cannot read annotation file {path}: {summary(error)}') from error


@contextmanager
def _no_collection() -> Iterator[None]:
    """Within it Python looks for no garbage, as it would again and again through millions of new lists."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def check_structure(path: str, coco: Any) -> None:
    """A UserError unless there are lists of images, not empty, and categories, and if any of annotations, of objects.
    """
    if not isinstance(coco, dict):
        raise UserError(f'{path} holds a {type(coco).__name__}, no object with images, annotations and categories')
    for part in PARTS:
        items = coco.get(part, [] if part == 'annotations' else None)
        if not (isinstance(items, list) and all(isinstance(item, dict) for item in items)):
            raise UserError(f'{path}: {part} is missing or no list of objects, as COCO has it')
    if not coco['images']:
        raise UserError(f'{path} lists no image')


def audit(coco: dict, masks: bool | None = None, labelled: bool | None = None) -> list[Finding]:
    """Looks through a file's content (:func:`check_structure`); findings in the order of :data:`CHECKS`.

    ``masks`` says whether a model needs them, by default where any annotation has one; ``labelled`` whether there must
    be annotations of use, by default where there is a list of them.
    """
    with _no_collection(), np.errstate(all='ignore'):
        return _Audit(coco, masks, 'annotations' in coco if labelled is None else labelled).findings


def _column(items: Sequence[dict], key: str) -> list:
    return [item.get(key) for item in items]


def _integers(values: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """Values as int64, and which are no whole numbers (0 stands for them)."""
    if set(map(type, values)) <= {int}:
        try:
            return np.array(values, np.int64), np.zeros(len(values), bool)
        except OverflowError:
            pass
    wrong = [type(value) is not int or not -2**63 <= value < 2**63 for value in values]
    return np.array([0 if bad else value for value, bad in zip(values, wrong)], np.int64), np.array(wrong, bool)


def numbers_of(rows: Sequence[list]) -> np.ndarray:
    """The numbers of all lists one after another; NaN for what is no number."""
    numbers = array('d')
    try:
        for row in rows:
            numbers.fromlist(row)
        return np.array(numbers)
    except (TypeError, OverflowError):
        return np.array([float(value) if isinstance(value, (int, float)) and abs(value) < 1e300 else np.nan
                         for row in rows for value in row], np.float64)


def _repeated(values: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Which values have occurred before."""
    repeated = ~wrong
    repeated[np.flatnonzero(~wrong)[np.unique(values[~wrong], return_index=True)[1]]] = False
    return repeated


def _positions(values: np.ndarray, wrong: np.ndarray, ids: np.ndarray, wrong_ids: np.ndarray) -> np.ndarray:
    """Where in ``ids`` each value stands; -1 if nowhere."""
    rows = np.flatnonzero(~wrong_ids)
    rows = rows[np.argsort(ids[rows], kind='stable')]
    if not len(rows):
        return np.full(len(values), -1)
    places = rows[np.minimum(np.searchsorted(ids[rows], values), len(rows) - 1)]
    return np.where((ids[places] == values) & ~wrong, places, -1)


class _Audit:
    """One pass over a file; see :func:`audit`."""

    def __init__(self, coco: dict, masks: bool | None, labelled: bool) -> None:
        self.images, self.categories, self.annotations = (coco.get(part, []) for part in PARTS)
        # All keys of one annotation after another, not all annotations by one key: memory is what takes the time.
        keys = ('id', 'image_id', 'category_id', 'iscrowd', 'ignore', 'area', 'bbox', 'segmentation')
        rows = [tuple(map(annotation.get, keys)) for annotation in self.annotations]
        self.columns = dict(zip(keys, zip(*rows))) if rows else dict.fromkeys(keys, ())
        found: dict[str, np.ndarray] = {}
        self.found = found
        ids = {}
        for part, items, what in zip(PARTS, (self.images, self.categories, self.annotations),
                                     ('image', 'category', 'annotation')):
            values, wrong = ids[part] = _integers(
                self.columns['id'] if part == 'annotations' else _column(items, 'id'))
            found[f'{what} id is no whole number'] = wrong
            found[f'{what} id occurs before'] = _repeated(values, wrong)
        found['annotation id is 0'] = (ids['annotations'][0] == 0) & ~ids['annotations'][1]
        self._look_at_images_and_names()
        self.image, self.category = (_positions(*_integers(self.columns[key]), *ids[part])
                                     for key, part in (('image_id', 'images'), ('category_id', 'categories')))
        found['image_id is of no image'], found['category_id is of no category'] = self.image < 0, self.category < 0
        # Sizes of the annotations' images; the row of NaN behind the last stands for no image.
        self.width, self.height = np.vstack([self.sizes, [np.nan, np.nan]])[self.image].T
        self._look_at_boxes()
        segmentations = self.columns['segmentation']
        if any(segmentations) if masks is None else masks:
            self._look_at_masks(segmentations)
        unusable = ('image_id is', 'category_id is', 'bbox is', 'bbox has', 'area is not', 'segmentation', 'RLE',
                    'mask')
        self.findings = []
        for name, check in CHECKS.items():
            positions = np.flatnonzero(found.get(name, ()))
            if len(positions):
                items = getattr(self, check.part)
                shown = first(repr(items[i].get('id')) for i in positions)
                self.findings.append(Finding(name, positions, len(items), shown))
        reasons = {name: found[name] for name in CHECKS if name in found and name.startswith(unusable)}
        total = len(self.annotations)
        lost = np.any([*reasons.values(), np.zeros(total, bool)], axis=0)
        aside = {'iscrowd or ignore is set': np.array(
            [bool(crowd or ignored) for crowd, ignored in zip(self.columns['iscrowd'], self.columns['ignore'])], bool)}
        none = labelled and np.all(lost | aside['iscrowd or ignore is set'])
        if none or lost.sum() > 0.01 * total:
            counts = {name: int(mask.sum()) for name, mask in {**reasons, **(aside if none else {})}.items()}
            note = ', '.join(f'{name}: {count}' for name, count in counts.items() if count)
            self.findings.append(Finding(
                list(CHECKS)[-1 if none else -2], np.arange(total) if none else np.flatnonzero(lost), total, '',
                f' ({note})' if note else ''))

    def _look_at_images_and_names(self) -> None:
        self.found['file_name is missing or no text'] = np.array(  # LVIS has URLs
            [not (isinstance(image.get('file_name'), str) and image['file_name'] or 'coco_url' in image)
             for image in self.images], bool)
        files = _column(self.images, 'file_name')
        self.found['file_name occurs before'] = _repeated(
            np.array(list(map(str, files)), object), np.array([not isinstance(name, str) for name in files], bool))
        sides = [_integers(_column(self.images, key)) for key in ('width', 'height')]
        wrong = np.any([bad | (values <= 0) for values, bad in sides], axis=0)
        wrong |= np.prod([values for values, _ in sides], axis=0, dtype=float) >= MAX_PIXELS
        self.found['width or height is missing or not above 0, or too large'] = wrong
        self.sizes = np.where(wrong[:, None], np.nan, np.stack([values for values, _ in sides], axis=1))
        names = _column(self.categories, 'name')
        nameless = np.array([not (isinstance(name, str) and name.strip()) for name in names], bool)
        self.found['category has no name, or one that is no text'] = nameless
        self.found['category name occurs before'] = _repeated(np.array(list(map(str, names)), object), nameless)

    def _look_at_boxes(self) -> None:
        found, width, height = self.found, self.width, self.height
        crowds, areas, boxes = (self.columns[key] for key in ('iscrowd', 'area', 'bbox'))
        found['iscrowd is missing'] = np.array([value is None for value in crowds], bool)
        found['iscrowd is neither 0 nor 1'] = np.array([value not in (0, 1, None) for value in crowds], bool)
        area = numbers_of([[value] for value in areas])
        found['area is missing or no number'] = ~np.isfinite(area)
        found['area is not above 0'] = area <= 0
        absent = [np.nan] * 4
        box = numbers_of([value if isinstance(value, list) and len(value) == 4 else absent for value in boxes])
        x, y, w, h = box.reshape(-1, 4).T
        found['bbox is missing or not four finite numbers'] = broken = ~np.isfinite(x + y + w + h)
        found['bbox has a side below 1 pixel'] = small = ~broken & ((w < 1) | (h < 1))
        # Sorted by a number that equal rows have in common, they are neighbours.
        rows = np.column_stack([self.image, self.category, box.reshape(-1, 4)])
        order = np.argsort(rows @ np.sqrt([2, 3, 5, 7, 11, 13]), kind='stable')
        found['annotation repeats another'] = repeats = np.zeros(len(rows), bool)
        repeats[order[1:]] = (rows[order[1:]] == rows[order[:-1]]).all(axis=1) & (rows[order[1:], 0] >= 0)
        outside = ~(broken | small) & ((x >= width) | (y >= height) | (x + w <= 0) | (y + h <= 0))
        found['bbox is outside the image'] = outside
        # A pixel of tolerance: rounding, and boxes that count pixels.
        found['bbox reaches beyond the image'] = ~(broken | small | outside) & (
            (x < -1) | (y < -1) | (x + w > width + 1) | (y + h > height + 1))

    def _look_at_masks(self, segmentations: Sequence) -> None:
        parts: Iterable[slice] = [slice(start, start + _BLOCK) for start in range(0, len(segmentations) or 1, _BLOCK)]
        if len(segmentations) > 4 * _BLOCK:
            parts = track(list(parts), 'Masks', transient=True, console=Console(stderr=True))
        blocks = [_judge_masks(segmentations[part], self.width[part], self.height[part]) for part in parts]
        self.found.update({name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]})


def _judge_masks(segmentations: Sequence, width: np.ndarray, height: np.ndarray) -> dict[str, np.ndarray]:
    """Which masks have which defect; the sizes are those of their images, NaN where unknown."""
    total = len(segmentations)
    missing, flat, unreadable, rle = (np.zeros(total, bool) for _ in range(4))
    polygons, owners = [], []
    for i, mask in enumerate(segmentations):
        if not mask:
            missing[i] = True
        elif isinstance(mask, dict):
            unreadable[i], rle[i] = _judge_rle(mask, width[i], height[i])
        elif not isinstance(mask, list):
            unreadable[i] = True
        elif set(map(type, mask)) == {list}:
            polygons += mask
            owners += [i] * len(mask)
        else:
            flat[i] = all(type(value) in (int, float) for value in mask)
            unreadable[i] = not flat[i]
    owner = np.array(owners, np.int64)
    lengths = np.fromiter(map(len, polygons), np.int64, len(polygons))
    short = (lengths < 6) | (lengths % 2 == 1)
    if short.any():
        polygons = [polygon for polygon, bad in zip(polygons, short) if not bad]
    has_short, whole = np.bincount(owner[short], minlength=total) > 0, owner[~short]
    counts = np.bincount(whole, minlength=total)
    unreadable |= has_short & (counts == 0)
    area: np.ndarray = np.zeros(total)
    inside = counts == 0
    if polygons:
        polygon_area, low, high = _measure(numbers_of(polygons), lengths[~short] // 2)
        size = np.stack([width[whole], height[whole]], axis=1)
        # pycocotools walks along every edge, and takes memory for each step.
        wild = ~np.isfinite(polygon_area) | ((low < -10 * size) | (high > 11 * size)).any(axis=1)
        unreadable[whole[wild]] = True
        area = np.bincount(whole, polygon_area, minlength=total)
        inside[whole[~((high <= 0) | (low >= size)).any(axis=1)]] = True
    return {
        'segmentation is missing or empty': missing, 'segmentation is one flat list': flat,
        'segmentation cannot be read as polygons or RLE': unreadable, 'RLE is of another size than the image': rle,
        'polygon of fewer than 3 points, or of an odd number of coordinates': has_short & ~unreadable,
        'mask has no area': (counts > 0) & ~unreadable & (area <= 1e-6),
        'mask is outside the image': ~unreadable & ~inside}


def _judge_rle(mask: dict, width: float, height: float) -> tuple[bool, bool]:
    """Whether a run-length encoding cannot be read, and whether it is of another size than its image."""
    size, counts = mask.get('size'), mask.get('counts')
    if not (isinstance(size, list) and [*map(type, size)] == [int, int] and counts and isinstance(counts, (str, list))):
        return True, False
    runs = counts if isinstance(counts, list) else _runs(counts)
    if set(map(type, runs)) != {int} or min(runs) < 0:
        return True, False
    return False, np.isfinite(width) and not (size == [height, width] and sum(runs) == height * width)


def _runs(text: str) -> list:
    """The runs that pycocotools has compressed: numbers of 5 bits a character, from the third on less the last but one.

    It takes whatever a text says, and draws pixels from anywhere in memory where that is too little.
    """
    codes = np.frombuffer(text.encode('utf-8', 'surrogatepass'), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(codes & 32 == 0)
    if ((codes < 0) | (codes > 63)).any() or not len(ends) or ends[-1] != len(codes) - 1:
        return [None]
    lengths = np.diff(ends, prepend=-1)
    place = np.arange(len(codes)) - np.repeat(ends + 1 - lengths, lengths)
    if place.max() > 6:
        return [None]
    runs = np.add.reduceat((codes & 31) << 5 * place, ends + 1 - lengths)
    runs -= (codes[ends] >> 4 & 1) << 5 * lengths  # the sign
    for column in (runs[1::2], runs[2::2]):
        np.cumsum(column, out=column)
    return runs.tolist()


def _measure(values: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Areas of polygons, and their lowest and highest (x, y); ``points`` is the number of each."""
    corners = values.reshape(-1, 2)
    starts = np.concatenate([[0], np.cumsum(points)[:-1]])
    following = np.roll(corners, -1, axis=0)
    following[starts + points - 1] = corners[starts]
    cross = corners[:, 0] * following[:, 1] - following[:, 0] * corners[:, 1]
    return (np.abs(np.add.reduceat(cross, starts)) / 2, np.minimum.reduceat(corners, starts, axis=0),
            np.maximum.reduceat(corners, starts, axis=0))
