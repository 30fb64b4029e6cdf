"""Checks of a text file that lists images and labels, ``NAME LABEL`` a line, as mmpretrain reads it."""

import os.path as osp
import re
from collections.abc import Iterable

from mmltm.apis.coco_files import absent
from mmltm.errors import UserError, summary


def check_listing(key: str, path: str, folder: str, classes: int | None) -> None:
    """Looks through the file at ``path`` of images in ``folder`` of so many classes, if known.

    Raises:
        UserError: Lines lack a label, name no file, or have labels that there are not, which end a training in its
            midst; or there is no line.
    """
    try:
        with open(path, encoding='utf-8') as file:
            lines = file.read().splitlines()
    except ValueError as error:
        raise UserError(f'{key}: cannot read {path}: {summary(error)}') from error
    rows = [line.strip().rsplit(' ', 1) for line in lines]
    _refuse(key, path, lines, 'no whole number behind a name, which is the label', (
        i for i, row in enumerate(rows) if len(row) != 2 or not re.fullmatch(r'-?\d{1,18}', row[1])))
    last = f' to {classes - 1}' if classes else ''
    _refuse(key, path, lines, f'a label that is not from 0{last}', (
        i for i, (_, label) in enumerate(rows) if int(label) < 0 or classes and int(label) >= classes))
    _refuse(key, path, lines, f'a name of no file in {folder}', absent([osp.join(folder, name) for name, _ in rows]))
    if not rows:
        raise UserError(f'{key}: {path} lists no image')


def _refuse(key: str, path: str, lines: list[str], what: str, found: Iterable[int]) -> None:
    rows = list(found)
    if rows:
        raise UserError(f'{key}: {path}: {len(rows)} of {len(lines)} lines have {what}, first line {rows[0] + 1}, '
                        f'{lines[rows[0]][:80]!r}')
