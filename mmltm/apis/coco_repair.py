"""Repair of a file in COCO's format: what :mod:`~mmltm.apis.coco_audit` finds, where the right value is known.

What :data:`~mmltm.apis.coco_checks.CHECKS` says of each kind of defect under ``fix`` is done here.
"""

import itertools
import math
import os.path as osp
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from mmltm.apis.coco_audit import audit
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
    except (TypeError, ValueError, KeyError, IndexError):
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


def renumber(annotations: list[dict], which: set[int]) -> None:
    """Gives the annotations at the positions ``which`` new ids behind the highest."""
    ids = [annotation.get('id') for i, annotation in enumerate(annotations) if i not in which]
    numbers = itertools.count(max([0, *(value for value in ids if type(value) is int)]) + 1)
    for i in sorted(which):
        annotations[i]['id'] = next(numbers)


def _number(value: Any) -> Any:
    """A whole number for a text or float that stands for one; else the value."""
    if isinstance(value, str) and re.fullmatch(r'\s*-?\d{1,18}\s*', value):
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _drop(coco: dict, part: str, rows: set[int]) -> None:
    coco[part] = [item for i, item in enumerate(coco[part]) if i not in rows]


def _to_numbers(key: str, known_to: str = '') -> Callable:
    """Turns text below ``key`` into numbers; drops what stays none, or unknown to the list ``known_to``."""
    def repair(coco: dict, finding: Finding, folder: str | None) -> None:
        part, rows = finding.check.part, set(finding.rows.tolist())
        for i in rows:
            coco[part][i][key] = _number(coco[part][i].get(key))
        known = {item.get('id') for item in coco[known_to]} if known_to else None
        _drop(coco, part, {i for i in rows if type(value := coco[part][i][key]) is not int
                           or not -2**63 <= value < 2**63 or known is not None and value not in known})
    return repair


def _each(change: Callable[[dict], bool]) -> Callable:
    """Changes each item in place; drops those of which ``change`` returns False."""
    def repair(coco: dict, finding: Finding, folder: str | None) -> None:
        items = coco[finding.check.part]
        _drop(coco, finding.check.part, {i for i in finding.rows.tolist() if not change(items[i])})
    return repair


def _set_size(coco: dict, finding: Finding, folder: str | None) -> None:
    images, lost = coco['images'], set()
    for i in finding.rows.tolist():
        size = header_size(osp.join(folder, str(images[i].get('file_name')))) if folder else None
        if size:
            images[i]['width'], images[i]['height'] = size[1]
        else:
            lost.add(i)
    _drop(coco, 'images', lost)


def _drop_same_categories(coco: dict, finding: Finding, folder: str | None) -> None:
    origin: dict = {}
    for category in coco['categories']:
        origin.setdefault(category['id'], category)
    _drop(coco, 'categories', {i for i in finding.rows.tolist()
                               if coco['categories'][i].get('name') == origin[coco['categories'][i]['id']].get('name')})


def _merge_names(coco: dict, finding: Finding, folder: str | None) -> None:
    origin: dict = {}
    for category in coco['categories']:
        origin.setdefault(category['name'], category['id'])
    target = {coco['categories'][i]['id']: origin[coco['categories'][i]['name']] for i in finding.rows.tolist()}
    for annotation in coco.get('annotations', []):
        annotation['category_id'] = target.get(annotation['category_id'], annotation['category_id'])
    _drop(coco, 'categories', set(finding.rows.tolist()))


def _clip_boxes(coco: dict, finding: Finding, folder: str | None) -> None:
    images = {image['id']: image for image in coco['images']}
    for i in finding.rows.tolist():
        annotation = coco['annotations'][i]
        x, y, w, h = annotation['bbox']
        image = images[annotation['image_id']]
        left, top = max(x, 0), max(y, 0)
        annotation['bbox'] = [left, top, min(x + w, image['width']) - left, min(y + h, image['height']) - top]


def _name(category: dict) -> bool:
    name = category.get('name')
    category['name'] = str(name if type(name) in (int, float) else category.get('id'))
    return True


def _crowd(annotation: dict) -> bool:
    value = _number(annotation['iscrowd'])
    annotation['iscrowd'] = value if value in (0, 1) else 0
    return True


def _area(annotation: dict) -> bool:
    annotation['area'] = area_of(annotation)
    return annotation['area'] > 0


def _box(annotation: dict) -> bool:
    mask = annotation.get('segmentation')
    points = [np.reshape(polygon, (-1, 2)) for polygon in mask if isinstance(polygon, list) and is_polygon(polygon)] \
        if isinstance(mask, list) else []
    if points:
        low, high = np.concatenate(points).min(axis=0), np.concatenate(points).max(axis=0)
        annotation['bbox'] = [*low.tolist(), *(high - low).tolist()]
    return bool(points) and np.isfinite(annotation['bbox']).all()


def _set(key: str, value: Callable[[dict], Any]) -> Callable:
    return _each(lambda item: item.update({key: value(item)}) is None)


def _renumber(coco: dict, finding: Finding, folder: str | None) -> None:
    renumber(coco['annotations'], set(finding.rows.tolist()))


_DROP = _each(lambda item: False)
_REPAIRS: dict[str, Callable[[dict, Finding, str | None], None]] = {
    'image id is no whole number': _to_numbers('id'),
    'width or height is missing or no whole number above 0': _set_size,
    'width and height are not those of the file': _set_size,
    'category id is no whole number': _to_numbers('id'),
    'category id occurs before': _drop_same_categories,
    'category has no name, or one that is no text': _each(_name),
    'category name occurs before': _merge_names,
    **{f'annotation id {what}': _renumber for what in ('is no whole number', 'occurs before', 'is 0')},
    'image_id is of no image': _to_numbers('image_id', 'images'),
    'category_id is of no category': _to_numbers('category_id', 'categories'),
    'iscrowd is missing': _set('iscrowd', lambda item: 0),
    'iscrowd is neither 0 nor 1': _each(_crowd),
    'area is missing or no number': _each(_area), 'area is not above 0': _each(_area),
    'bbox is missing or not four finite numbers': _each(_box),
    'bbox reaches beyond the image': _clip_boxes,
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
        _REPAIRS.get(finding.name, _DROP)(coco, finding, folder)
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
