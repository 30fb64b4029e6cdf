"""What can be wrong with a file in COCO's format: kinds of defects, and how what was found is said."""

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

import numpy as np

PARTS = ('images', 'categories', 'annotations')


class Check(NamedTuple):
    """A kind of defect: in which list of the file, whether it stops a run, what to do, and what ``--fix`` does."""
    part: str
    fatal: bool
    remedy: str
    fix: str = ''


DROPPED, NUMBERS = 'drops them', 'turns text into numbers, drops the rest'
CHECKS = {
    'image id is no whole number': Check('images', True, 'write ids as numbers, without quotes', NUMBERS),
    'image id occurs before': Check('images', True, 'give each image an id of its own', 'keeps the first of an id'),
    'file_name is missing or no text': Check('images', True, 'name the file of each image', DROPPED),
    'file_name occurs before': Check(
        'images', False, 'list each image once, with all its annotations', 'moves all annotations to the first'),
    'width or height is missing or not above 0, or too large': Check(
        'images', True, 'write the size of each image in pixels, less than 2**30 in all',
        'reads the size from the file in --images, else drops them'),
    'file does not exist': Check(
        'images', True, 'check the image folder', 'drops them, and with them their annotations'),
    'file is empty': Check('images', True, 'replace the file or take it off', DROPPED),
    'width and height are not those of the file': Check(
        'images', True, 'boxes and masks may be of another size, too: annotate the file anew, or if they fit it, '
        'correct the size', "takes the file's size"),
    'width and height are those of the file before its EXIF rotation': Check(
        'images', True, 'images are turned as their EXIF orientation says when loaded, boxes are not: store the images '
        "upright (exiftool -Orientation= -n, if they look right without), or set color_type='color_ignore_orientation' "
        'in LoadImageFromFile of all pipelines'),
    'category id is no whole number': Check('categories', True, 'write ids as numbers, without quotes', NUMBERS),
    'category id occurs before': Check(
        'categories', True, 'give each category an id of its own', 'drops exact repetitions'),
    'category has no name, or one that is no text': Check(
        'categories', True, 'name each category by a text', 'takes a number as text, else the id, as name'),
    'category name occurs before': Check(
        'categories', True, 'give each category a name of its own', 'moves all annotations to the first of a name'),
    'annotation id is no whole number': Check('annotations', True, 'number the annotations', 'numbers them anew'),
    'annotation id occurs before': Check(
        'annotations', True, 'give each annotation an id of its own', 'numbers them anew'),
    'annotation id is 0': Check(
        'annotations', False, 'pycocotools takes 0 for "unmatched": scored under another id', 'numbers them anew'),
    'image_id is of no image': Check('annotations', True, 'add the images, or take the annotations out',
                                     'turns text into numbers, drops what is unknown then'),
    'category_id is of no category': Check('annotations', True, 'add the categories, or take the annotations out',
                                           'turns text into numbers, drops what is unknown then'),
    'annotation repeats another': Check(
        'annotations', False, 'of equal image, category and box: keep one', DROPPED),
    'iscrowd is missing': Check('annotations', False, 'taken as 0', 'writes 0'),
    'iscrowd is neither 0 nor 1': Check('annotations', True, 'write 0 or 1', 'turns text into numbers, else writes 0'),
    'area is missing or no number': Check('annotations', False, 'computed from mask or box', 'computes it'),
    'area is not above 0': Check('annotations', False, 'left out in training: write the area', 'computes it'),
    'bbox is missing or not four finite numbers': Check(
        'annotations', True, 'write x, y, width, height', 'takes the box of the mask, else drops them'),
    'bbox has a side below 1 pixel': Check(
        'annotations', False, 'left out in training; is it x, y, width, height?', DROPPED),
    'bbox is outside the image': Check('annotations', False, 'left out in training', DROPPED),
    'bbox reaches beyond the image': Check(
        'annotations', False, 'is it x, y, width, height, and not x1, y1, x2, y2?', 'cuts it at the border'),
    'segmentation is missing or empty': Check('annotations', True, 'add masks, or use a model without', DROPPED),
    'segmentation is one flat list': Check(
        'annotations', True, 'write a list of polygons, each a list of numbers', 'puts it in a list'),
    'segmentation cannot be read as polygons or RLE': Check(
        'annotations', True, 'write polygons of 3 points or more, finite and near the image, or RLE', DROPPED),
    'RLE is of another size than the image': Check(
        'annotations', True, 'write size as [height, width] of the image, and counts to match', DROPPED),
    'polygon of fewer than 3 points, or of an odd number of coordinates': Check(
        'annotations', False, 'left out beside other polygons', 'drops the polygons'),
    'mask has no area': Check('annotations', False, 'an object without mask', DROPPED),
    'mask is outside the image': Check('annotations', False, 'an object without mask', DROPPED),
    'more than 1% of the annotations cannot be used': Check('annotations', False, 'see the reasons'),
    'no annotation can be used': Check('annotations', True, 'nothing would be learnt or scored: check the file'),
}


class Finding(NamedTuple):
    """What a check has found: positions in the file's list, how many items that has, first ids, further words."""
    name: str
    rows: np.ndarray
    total: int
    ids: str
    note: str = ''

    @property
    def check(self) -> Check:
        return CHECKS[self.name]

    def __str__(self) -> str:
        ids = f', first {self.ids}' if self.ids else ''
        return f'{self.name}: {len(self.rows)} of {self.total} {self.check.part}{ids}{self.note}; {self.check.remedy}'


def first(items: Iterable, count: int = 3) -> str:
    shown = [str(item) for item in islice(items, count + 1)]
    return ', '.join(shown[:count]) + (', ...' if len(shown) > count else '')
