"""Draws a detection set in the COCO layout from a seed: scenes with polygons and label maps, by shape_scenes.py."""

from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track
from shapely.geometry import MultiPolygon, Polygon

from coco_folder import (
    FORMAT_VERSION,
    JPEG_QUALITY,
    SPLITS,
    annotation_file,
    appear_when_complete,
    must_make,
    write_json,
)
from shape_scenes import OUTLINES, Scene, render, sample_scene

SizeRange = tuple[tuple[int, int], tuple[int, int]]


def annotate(scene: Scene, image_id: int, first_id: int) -> list[dict]:
    """COCO annotations of a scene, one an object.

    The polygons are the visible outlines, rounded to a hundredth of a pixel; area and bbox are theirs.

    Args:
        scene (Scene): The scene.
        image_id (int): Its image's id.
        first_id (int): Id of the first annotation; the others count on from it.

    Returns:
        list[dict]: Annotations in drawing order.
    """
    annotations = []
    for index, item in enumerate(scene.objects):
        # A ring repeats its first vertex at its end, COCO polygons do not.
        rings = [np.round(np.asarray(part.exterior.coords)[:-1], 2) for part in scene.fragments(index)]
        left, top, right, bottom = MultiPolygon([Polygon(ring) for ring in rings]).bounds
        annotations.append(dict(
            id=first_id + index,
            image_id=image_id,
            category_id=list(OUTLINES).index(item.category) + 1,
            iscrowd=0,
            area=round(sum(Polygon(ring).area for ring in rings), 2),
            bbox=[round(value, 2) for value in (left, top, right - left, bottom - top)],
            segmentation=[ring.ravel().tolist() for ring in rings]))
    return annotations


def label_map(scene: Scene, owner: np.ndarray) -> np.ndarray:
    """What is at each pixel of a scene, (h, w) uint8: 0 for the background, else the category's id.

    ``owner`` is what :func:`shape_scenes.render` returns.
    """
    ids = [list(OUTLINES).index(item.category) + 1 for item in scene.objects]
    return np.array([0, *ids], np.uint8)[owner]


def draw_image(size: SizeRange, max_objects: int, seed: int, split: str,
               index: int) -> tuple[Scene, np.ndarray, np.ndarray]:
    """Draw image ``index`` of a split, which does not depend on how many images there are.

    Args:
        size (tuple): ((lowest, highest) width, (lowest, highest) height).
        max_objects (int): Largest number of objects.
        seed (int): Seed of the set.
        split (str): One of :data:`SPLITS`.
        index (int): Number of the image in its split, from 0.

    Returns:
        tuple: The scene and what :func:`shape_scenes.render` returns, image and owner of each pixel.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    width, height = (int(rng.integers(low, high, endpoint=True)) for low, high in size)
    scene = sample_scene(width, height, max_objects, rng)
    return (scene, *render(scene, rng))


def _generate_split(folder: Path, split: str, count: int, size: SizeRange, max_objects: int,
                    seed: int) -> dict:
    """Draw one split into ``folder`` and return its COCO dictionary."""
    (folder / split).mkdir()
    (folder / 'annotations' / split).mkdir()
    images, annotations = [], []
    for index in track(range(count), f'drawing {split}', console=Console(stderr=True)):
        scene, image, owner = draw_image(size, max_objects, seed, split, index)
        name = f'{index + 1:012d}.jpg'
        labels = folder / 'annotations' / split / f'{index + 1:012d}.png'
        if not (cv2.imwrite(str(folder / split / name), image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
                and cv2.imwrite(str(labels), label_map(scene, owner))):
            raise OSError(f'cannot write {split}/{name} or its label map')
        images.append(dict(id=index + 1, file_name=name, width=scene.width, height=scene.height))
        # COCO's evaluation takes annotation id 0 for "no match", so ids start from 1.
        annotations += annotate(scene, image_id=index + 1, first_id=len(annotations) + 1)
    return dict(
        info=dict(description=f'synthetic shapes, {split}, seed {seed}', version=str(FORMAT_VERSION)),
        licenses=[],
        images=images,
        annotations=annotations,
        categories=[dict(id=i, name=name, supercategory='shape') for i, name in enumerate(OUTLINES, 1)])


def generate(out: Path,
             num_train: int = 240,
             num_val: int = 60,
             size: SizeRange = ((256, 256), (256, 256)),
             max_objects: int = 6,
             seed: int = 0,
             force: bool = False) -> bool:
    """Draw a synthetic set. Same arguments and library versions give the same bytes.

    Args:
        out (Path): Folder to make.
        num_train (int): Training images. Defaults to 240.
        num_val (int): Validation images. Defaults to 60.
        size (tuple): ((lowest, highest) width, (lowest, highest) height). Defaults to 256x256.
        max_objects (int): Largest number of objects in an image; the smallest is 1. Defaults to 6.
        seed (int): Seed, at least 0. Defaults to 0.
        force (bool): Replace a set that this tool made with other arguments. Defaults to False.

    Returns:
        bool: False if the set was already there.

    Raises:
        CocoFolderError: If ``out`` holds something else.
    """
    recipe = dict(version=FORMAT_VERSION, command='generate', splits=SPLITS, num_train=num_train,
                  num_val=num_val, size=size, max_objects=max_objects, seed=seed)
    if not must_make(out, recipe, force):
        return False
    with appear_when_complete(out, recipe) as folder:
        for split, count in zip(SPLITS, (num_train, num_val)):
            coco = _generate_split(folder, split, count, size, max_objects, seed)
            write_json(annotation_file(folder, split), coco)
    return True
