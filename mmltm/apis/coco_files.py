"""Whether the images of a file in COCO's format are there, and of the size that it says."""

import os
import os.path as osp
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from mmltm.apis.coco_checks import Finding, first


def audit_files(coco: dict, folder: str, limit: int | None = None, may_be_empty: bool = False,
                upright: bool = True) -> list[Finding]:
    """Compares the images of a file with those in ``folder``: whether they exist, and their sizes by their headers.

    Of more than ``limit`` images as many are opened, evenly spread. With ``upright`` images are turned as their EXIF
    orientation says, as loading does by default.
    """
    images = coco['images']
    names = [image['file_name'] if isinstance(image.get('file_name'), str) else None for image in images]
    paths = [None if name is None else osp.join(folder, name) for name in names]
    rows: dict[str, list[int]] = defaultdict(list)
    rows['file does not exist'] = absent(paths)
    there = sorted({*range(len(paths))} - {*rows['file does not exist']})
    if not may_be_empty:
        rows['file is empty'] = [i for i in there if paths[i] and osp.getsize(paths[i]) == 0]
    sample: Iterable[int] = there if limit is None or len(there) <= limit else \
        [there[i] for i in np.linspace(0, len(there) - 1, limit).astype(int)]
    if len(there) > 2000 and limit is None:
        sample = track(there, 'Sizes of images', transient=True, console=Console(stderr=True))
    looked = 0
    for i in sample:
        path = paths[i]
        size = header_size(path) if path else None
        declared = (images[i].get('width'), images[i].get('height'))
        if size is None or not all(type(side) is int for side in declared):
            continue
        looked += 1
        stored, turned = size
        if declared != (turned if upright else stored):
            exif = upright and declared == stored
            rows['width and height are ' + ('those of the file before its EXIF rotation' if exif
                                            else 'not those of the file')].append(i)
    return [Finding(name, np.array(found), looked if name.startswith('width') else len(images),
                    first(paths[i] for i in found)) for name, found in rows.items() if found]


def absent(paths: Sequence[str | None]) -> list[int]:
    """Positions of the paths at which there is nothing; None is passed over."""
    # Asking for each file takes long on network storage.
    present = {parent: set(os.listdir(parent)) if osp.isdir(parent) else set()
               for parent in {osp.dirname(path) for path in paths if path}}
    return [i for i, path in enumerate(paths) if path and osp.basename(path) not in present[osp.dirname(path)]]


def header_size(path: str) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Width and height as stored, and as displayed; None for what cannot be read."""
    try:
        with Image.open(path) as image:
            # 0x0112 is the orientation; 5 to 8 exchange the sides. Of other formats Pillow would decode all.
            turned = image.format in ('JPEG', 'MPO') and image.getexif().get(0x0112) in (5, 6, 7, 8)
            return image.size, image.size[::-1] if turned else image.size
    except Exception:  # of whatever kind a decoder raises; loading says so itself
        return None
