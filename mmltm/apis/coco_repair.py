"""Repair of a file in COCO's format: what :mod:`~mmltm.apis.coco_audit` finds, where the right value is known.

What :data:`~mmltm.apis.coco_checks.CHECKS` says of each kind of defect under ``fix`` is done here.
"""

import itertools
import math
import os.path as osp
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from mmltm.apis.coco_audit import audit, numbers_of
from mmltm.apis.coco_checks import Finding, first
from mmltm.apis.coco_files import audit_files, header_size
from mmltm.errors import UserError


def is_polygon(polygon: list) -> bool:
    """Whether a list of coordinates has as many as a polygon needs."""
    return len(polygon) >= 6 and len(polygon) % 2 == 0


def area_of(annotation: dict) -> float:
    """The area of an annotation's mask in pixels, as COCO defines it; that of its box if it has no mask; else 0."""
    mask, box = annotation.get('segmentation'), annotation.get('bbox')
    try:
        if isinstance(mask, dict):
            counts = mask['counts']
            return float(sum(counts[1::2]) if isinstance(counts, list) else mask_utils.area(mask))
        polygons = [np.reshape(polygon, (-1, 2)) for polygon in mask or () if is_polygon(polygon)]
        area = sum(abs(np.sum(p[:, 0] * np.roll(p[:, 1], -1) - p[:, 1] * np.roll(p[:, 0], -1))) / 2 for p in polygons)
        return float(area or box[2] * box[3])  # type: ignore[index]
    except (TypeError, ValueError, KeyError, IndexError, OverflowError):
        return 0.


def complete(annotation: dict) -> None:
    """Fills in, in place, what may be missing: ``iscrowd`` (0), ``area``; drops short polygons beside whole ones.

    So far mmdet and pycocotools fail on an annotation, the latter when all inference is done, or read it amiss.
    """
    if annotation.get('iscrowd') is None:
        annotation['iscrowd'] = 0
    area: Any = annotation.get('area')
    mask = annotation.get('segmentation')
    if type(area) not in (int, float) or not math.isfinite(area):
        annotation['area'] = area_of(annotation)
    if isinstance(mask, list) and not all(isinstance(p, list) and is_polygon(p) for p in mask):
        annotation['segmentation'] = [p for p in mask if isinstance(p, list) and is_polygon(p)] or mask


def fresh_ids(annotations: list[dict]) -> Iterator[int]:
    """Ids that no annotation has."""
    ids = (annotation.get('id') for annotation in annotations)
    return itertools.count(1 + max((value for value in ids if type(value) is int and 0 < value < 2**62), default=0))


def _number(value: Any) -> Any:
    """A whole number for a text or float that stands for one; else the value."""
    if isinstance(value, str) and re.fullmatch(r'\s*-?\d{1,18}\s*', value):
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _first_by(key: str, items: list[dict]) -> dict:
    """The first item of each value below ``key``."""
    return {item[key]: item for item in reversed(items) if isinstance(item.get(key), (int, str))}


# Each of the following makes a function that changes one item in place; the item is dropped where that returns False.
Change = Callable[[dict], Any]


def _to_number(key: str, known_to: str = '') -> Callable[[dict, str | None], Change]:
    """Text below ``key`` becomes a number; what stays none, or unknown to the list ``known_to``, is dropped."""
    def make(coco: dict, folder: str | None) -> Change:
        known = {item.get('id') for item in coco[known_to]} if known_to else None

        def change(item: dict) -> bool:
            item[key] = value = _number(item.get(key))
            return type(value) is int and -2**63 <= value < 2**63 and (known is None or value in known)
        return change
    return make


def _set_size(coco: dict, folder: str | None) -> Change:
    def change(image: dict) -> bool:
        size = header_size(osp.join(folder, str(image.get('file_name')))) if folder else None
        if size:
            image['width'], image['height'] = size[1]
        return size is not None
    return change


def _same_category(coco: dict, folder: str | None) -> Change:
    origin = _first_by('id', coco['categories'])
    return lambda category: category.get('name') != origin[category['id']].get('name')


def _merge(part: str, key: str, link: str) -> Callable[[dict, str | None], Change]:
    """Annotations whose ``link`` is to an item go over to the first of its ``key``; the item is dropped."""
    def make(coco: dict, folder: str | None) -> Change:
        origin, linked = _first_by(key, coco[part]), defaultdict(list)
        for annotation in coco.get('annotations', []):
            linked[str(annotation.get(link))].append(annotation)

        def change(item: dict) -> bool:
            for annotation in linked[str(item['id'])]:
                annotation[link] = origin[item[key]]['id']
            return False
        return change
    return make


def _clip_box(coco: dict, folder: str | None) -> Change:
    images = _first_by('id', coco['images'])

    def change(annotation: dict) -> bool:
        x, y, w, h = annotation['bbox']
        image = images[annotation['image_id']]
        left, top = max(x, 0), max(y, 0)
        annotation['bbox'] = [left, top, min(x + w, image['width']) - left, min(y + h, image['height']) - top]
        return True
    return change


def _new_id(coco: dict, folder: str | None) -> Change:
    ids = fresh_ids(coco['annotations'])
    return lambda annotation: annotation.update(id=next(ids)) is None


def _area(annotation: dict) -> bool:
    annotation['area'] = area_of(annotation)
    return annotation['area'] > 0


def _box(annotation: dict) -> bool:
    mask = annotation.get('segmentation')
    polygons = [p for p in mask if isinstance(p, list) and is_polygon(p)] if isinstance(mask, list) else []
    if not polygons:
        return False
    points = numbers_of(polygons).reshape(-1, 2)
    low, high = points.min(axis=0), points.max(axis=0)
    annotation['bbox'] = [*low.tolist(), *(high - low).tolist()]
    return bool(np.isfinite(annotation['bbox']).all())


def _set(key: str, value: Callable[[dict], Any]) -> Callable[[dict, str | None], Change]:
    return lambda coco, folder: lambda item: item.update({key: value(item)}) is None


_REPAIRS: dict[str, Callable[[dict, str | None], Change]] = {
    'image id is no whole number': _to_number('id'),
    'file_name occurs before': _merge('images', 'file_name', 'image_id'),
    'width or height is missing or not above 0, or too large': _set_size,
    'width and height are not those of the file': _set_size,
    'category id is no whole number': _to_number('id'),
    'category id occurs before': _same_category,
    'category has no name, or one that is no text': _set('name', lambda item: str(
        item['name'] if type(item.get('name')) in (int, float) else item.get('id'))),
    'category name occurs before': _merge('categories', 'name', 'category_id'),
    **{f'annotation id {what}': _new_id for what in ('is no whole number', 'occurs before', 'is 0')},
    'image_id is of no image': _to_number('image_id', 'images'),
    'category_id is of no category': _to_number('category_id', 'categories'),
    **{f'iscrowd is {what}': _set('iscrowd', lambda item: int(_number(item.get('iscrowd')) in (1, True)))
       for what in ('missing', 'neither 0 nor 1')},
    'area is missing or no number': lambda coco, folder: _area, 'area is not above 0': lambda coco, folder: _area,
    'bbox is missing or not four finite numbers': lambda coco, folder: _box,
    'bbox reaches beyond the image': _clip_box,
    'segmentation is one flat list': _set('segmentation', lambda item: [item['segmentation']]),
    'polygon of fewer than 3 points, or of an odd number of coordinates': _set(
        'segmentation', lambda item: [polygon for polygon in item['segmentation'] if is_polygon(polygon)]),
}


def repair(coco: dict, masks: bool | None = None, folder: str | None = None) -> Iterator[Finding]:
    """Repairs a file's content in place, one kind of defect after another, and yields each that it has put right.

    ``folder`` is where the images lie, as far as their files are to be looked at.

    Raises:
        UserError: What is left stops a run, and nothing tells the right value.
    """
    masks = any(a.get('segmentation') for a in coco.get('annotations', [])) if masks is None else masks
    yield from _rounds(coco, folder, lambda: audit(coco, masks))
    if folder:
        yield from _rounds(coco, folder, lambda: audit_files(coco, folder))
    yield from _rounds(coco, folder, lambda: audit(coco, masks))
    left = [f for f in [*audit(coco, masks), *(audit_files(coco, folder) if folder else ())] if f.check.fatal]
    if left:
        raise UserError(f'cannot repair the rest: {left[0]}')


def _rounds(coco: dict, folder: str | None, look: Callable[[], list[Finding]]) -> Iterator[Finding]:
    """Repairs what ``look`` finds as long as that helps: one repair can bring another kind of defect about."""
    tries: Counter = Counter()
    findings = look()
    while finding := next((f for f in findings if f.check.fix and tries[f.name] < 3), None):
        tries[finding.name] += 1
        make, part = _REPAIRS.get(finding.name), finding.check.part
        change = make(coco, folder) if make else lambda item: False
        lost = {i for i in finding.rows.tolist() if not change(coco[part][i])}
        coco[part] = [item for i, item in enumerate(coco[part]) if i not in lost]
        findings = look()
        if sum(len(f.rows) for f in findings if f.name == finding.name) < len(finding.rows):
            yield finding


def sort_categories(coco: dict, other: dict, path: str) -> str:
    """Puts a file's categories in the order of those of another, which decides the labels; says whether they differed.

    Raises:
        UserError: The names are not the same.
    """
    names, wanted = ([category.get('name') for category in content['categories']] for content in (coco, other))
    if len(names) != len(wanted) or set(names) != set(wanted):
        only = [f'only in {where}: {first(sorted(map(str, {*here} - {*there})))}' for where, here, there in (
            ('this file', names, wanted), (path, wanted, names)) if {*here} - {*there}]
        raise UserError(f'the categories are not those of {path}, {"; ".join(only) or "some occur twice"}')
    coco['categories'].sort(key=lambda category: wanted.index(category['name']))
    return f'Categories: {"as in" if names == wanted else "in another order than"} {path}'
