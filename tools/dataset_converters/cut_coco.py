"""Cuts a COCO folder down to a few images, or into pictures of its objects."""

import shutil
from collections import defaultdict
from collections.abc import Container, Sequence
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from coco_folder import (
    FORMAT_VERSION,
    JPEG_QUALITY,
    SPLITS,
    CocoFolderError,
    annotation_file,
    appear_when_complete,
    must_make,
    read_json,
    write_json,
)

# Side of a crop over the longer side of its object's box.
MARGIN = 1.25


def is_valid(annotation: dict, image: dict, category_ids: Container[int]) -> bool:
    """Whether mmdet's CocoDataset trains on an annotation: no crowd, known category, box in the image."""
    x, y, w, h = annotation['bbox']
    overlaps = min(x + w, image['width']) > max(x, 0) and min(y + h, image['height']) > max(y, 0)
    return (overlaps and w >= 1 and h >= 1 and annotation['area'] > 0
            and annotation['category_id'] in category_ids
            and not annotation.get('iscrowd') and not annotation.get('ignore'))


def select_images(coco: dict, num_images: int | None) -> dict:
    """The first images, in the file's order, with a valid annotation, and all that belongs to them.

    Args:
        coco (dict): A COCO instance dictionary.
        num_images (int, optional): Images to keep, or fewer where the dictionary has no more; None: all.

    Returns:
        dict: The same dictionary with fewer images and annotations; crowds of the kept images stay.
    """
    by_id = {image['id']: image for image in coco['images']}
    category_ids = {category['id'] for category in coco['categories']}
    annotated = {a['image_id'] for a in coco['annotations']
                 if a['image_id'] in by_id and is_valid(a, by_id[a['image_id']], category_ids)}
    images = [image for image in coco['images'] if image['id'] in annotated][:num_images]
    kept = {image['id'] for image in images}
    annotations = [a for a in coco['annotations'] if a['image_id'] in kept]
    return {**coco, 'images': images, 'annotations': annotations}


def _apart(src: Path, out: Path) -> tuple[Path, Path]:
    """Both, resolved; raises CocoFolderError where making ``out`` would replace ``src``."""
    src, out = src.resolve(), out.resolve()
    if src == out or out in src.parents:
        raise CocoFolderError(f'{out} holds the source {src}; choose another OUT')
    return src, out


def _read_split(src: Path, split: str, num_images: int | None = None) -> dict:
    """Select the images of one split of ``src``; raises CocoFolderError where anything of it is missing."""
    annotations, images = annotation_file(src, split), src / split
    for path in (annotations, images):
        if not path.exists():
            raise CocoFolderError(
                f'{path} is missing; the COCO layout needs {annotations} and images in {images}/')
    try:
        coco = select_images(read_json(annotations), num_images)
        paths = [images / image['file_name'] for image in coco['images']]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CocoFolderError(f'{annotations} is no COCO instance file: {error!r}') from error
    if not paths:
        raise CocoFolderError(f'{annotations} has no image with a valid annotation')
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise CocoFolderError(
            f'{missing[0]} is missing, named in {annotations} ({len(missing)} of {len(paths)} are missing)')
    return coco


def subset(src: Path,
           out: Path,
           num_images: int,
           splits: Sequence[str] = SPLITS,
           symlink: bool = False,
           force: bool = False) -> bool:
    """Cut a COCO folder down to the first images of each split that have a valid annotation.

    "First" is the order of the annotation file, in which mmdet reads it too. Info, licenses and all
    categories are kept. A split with fewer valid images gives all of them.

    Args:
        src (Path): COCO folder.
        out (Path): Folder to make.
        num_images (int): Images a split.
        splits (Sequence[str]): Splits to cut. Defaults to train2017 and val2017.
        symlink (bool): Link the images instead of copying them. Defaults to False.
        force (bool): Replace a set that this tool made with other arguments. Defaults to False.

    Returns:
        bool: False if the set was already there.

    Raises:
        CocoFolderError: If something of ``src`` is missing or broken, or ``out`` holds something else.
    """
    src, out = _apart(src, out)
    splits = list(dict.fromkeys(splits))
    recipe = dict(version=FORMAT_VERSION, command='subset', splits=splits, src=str(src),
                  num_images=num_images, symlink=symlink)
    if not must_make(out, recipe, force):
        return False
    selected = {split: _read_split(src, split, num_images) for split in splits}
    with appear_when_complete(out, recipe) as folder:
        for split, coco in selected.items():
            for image in track(coco['images'], f'copying {split}', console=Console(stderr=True)):
                target = folder / split / image['file_name']
                target.parent.mkdir(parents=True, exist_ok=True)
                source = src / split / image['file_name']
                target.symlink_to(source) if symlink else shutil.copyfile(source, target)
            write_json(annotation_file(folder, split), coco)
    return True


def crops(src: Path, out: Path, size: int = 64, force: bool = False) -> bool:
    """Cut out every valid object of a COCO folder, in a square with an eighth of margin, as a picture of its category.

    Args:
        src (Path): COCO folder.
        out (Path): Folder to make.
        size (int): Side of the pictures in pixels. Defaults to 64.
        force (bool): Replace what this tool made with other arguments. Defaults to False.

    Returns:
        bool: False if the pictures were already there.

    Raises:
        CocoFolderError: If something of ``src`` is missing or broken, or ``out`` holds something else.
    """
    src, out = _apart(src, out)
    recipe = dict(version=FORMAT_VERSION, command='crops', splits=[], src=str(src), size=size)
    if not must_make(out, recipe, force):
        return False
    selected = {split: _read_split(src, split) for split in SPLITS}
    with appear_when_complete(out, recipe) as folder:
        for split, coco in selected.items():
            names = {category['id']: category['name'] for category in coco['categories']}
            for name in names.values():
                (folder / split / name).mkdir(parents=True)
            objects = defaultdict(list)
            for annotation in coco['annotations']:
                objects[annotation['image_id']].append(annotation)
            for image in track(coco['images'], f'cutting {split}', console=Console(stderr=True)):
                pixels = cv2.imread(str(src / split / image['file_name']))
                for item in objects[image['id']]:
                    if is_valid(item, image, names):
                        x, y, w, h = item['bbox']
                        scale = size / (MARGIN * max(w, h))
                        shift = [size / 2 - scale * (x + w / 2), size / 2 - scale * (y + h / 2)]
                        crop = cv2.warpAffine(
                            pixels, np.array([[scale, 0, shift[0]], [0, scale, shift[1]]]), (size, size),
                            borderMode=cv2.BORDER_REPLICATE)
                        cv2.imwrite(str(folder / split / names[item['category_id']] / f'{item["id"]:012d}.jpg'), crop,
                                    [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return True
