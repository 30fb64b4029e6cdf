"""Make a small detection set in the COCO layout, drawn from a seed or cut out of a COCO folder, or crops of objects.

`generate` draws textured, overlapping shapes (see shape_scenes.py) with their exact polygons, free of
any download and licence. `subset` keeps the first images of a COCO folder that have a valid
annotation. Both write::

    OUT/annotations/instances_train2017.json  OUT/annotations/instances_val2017.json
    OUT/train2017/*.jpg                       OUT/val2017/*.jpg
    OUT/mini_coco.json                        how the set was made

`crops` cuts the objects out of such a folder, for a classifier to pre-train a detector's backbone with::

    OUT/train2017/CATEGORY/*.jpg              OUT/val2017/CATEGORY/*.jpg

OUT appears only when it is complete; a second call with the same arguments finds it and does nothing.
"""

import argparse
import re
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Sequence
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text
from shapely.geometry import MultiPolygon, Polygon

from coco_folder import (
    RECIPE_FILE,
    CocoFolderError,
    annotation_file,
    appear_when_complete,
    must_make,
    read_json,
    write_json,
)
from shape_scenes import OUTLINES, Scene, render, sample_scene

SPLITS = ('train2017', 'val2017')
# Raise it whenever the same arguments would draw or choose something else.
FORMAT_VERSION = 1
MIN_SIDE, MAX_SIDE = 64, 2048
JPEG_QUALITY = 95
# Side of a crop over the longer side of its object's box.
MARGIN = 1.25
TABLE_ROWS = 12

EXAMPLES = """examples:
  # 240 training and 60 validation images of 256x256 pixels
  python tools/dataset_converters/make_mini_coco.py generate data/mini_coco

  # other counts, another seed, images from 192 to 320 pixels wide and 256 pixels high
  python tools/dataset_converters/make_mini_coco.py generate data/mini_coco_b \\
      --num-train 1000 --num-val 100 --size 192-320x256 --seed 7

  # the first 500 annotated images of each split of a real COCO folder, linked instead of copied
  python tools/dataset_converters/make_mini_coco.py subset data/coco data/coco500 --num-images 500 --symlink

  # every object of a COCO folder as a picture of 80x80 pixels, in a folder a category
  python tools/dataset_converters/make_mini_coco.py crops data/mini_coco data/mini_crops --size 80
"""

SizeRange = tuple[tuple[int, int], tuple[int, int]]


def parse_size(text: str) -> SizeRange:
    """Read 'WIDTHxHEIGHT', where each side is a number of pixels or a range 'LOW-HIGH'.

    Returns:
        tuple: ((lowest, highest) width, (lowest, highest) height).

    Raises:
        argparse.ArgumentTypeError: If the text has another form or a side is out of bounds.
    """
    match = re.fullmatch(r'(\d+)(?:-(\d+))?x(\d+)(?:-(\d+))?', text)
    if match is None:
        raise argparse.ArgumentTypeError(
            f'{text!r} is no size; write WIDTHxHEIGHT, such as 256x256 or 192-320x256')
    sides = match.groups()
    ranges = tuple((int(low), int(high or low)) for low, high in (sides[:2], sides[2:]))
    for low, high in ranges:
        if not MIN_SIDE <= low <= high <= MAX_SIDE:
            raise argparse.ArgumentTypeError(
                f'{text!r} is out of bounds; sides must be {MIN_SIDE} to {MAX_SIDE} pixels, ranges LOW-HIGH')
    return ranges


def int_from(lowest: int) -> Callable[[str], int]:
    """An argparse type: whole numbers from ``lowest`` on."""
    def read(text: str) -> int:
        if not re.fullmatch(r'\d+', text) or int(text) < lowest:
            raise argparse.ArgumentTypeError(f'{text!r} is not a whole number of at least {lowest}')
        return int(text)
    return read


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


def draw_image(size: SizeRange, max_objects: int, seed: int, split: str,
               index: int) -> tuple[Scene, np.ndarray, np.ndarray]:
    """Draw image ``index`` of a split, which does not depend on how many images there are.

    Args:
        size (tuple): Ranges of width and height, see :func:`parse_size`.
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
    images, annotations = [], []
    for index in track(range(count), f'drawing {split}', console=Console(stderr=True)):
        scene, image, _ = draw_image(size, max_objects, seed, split, index)
        name = f'{index + 1:012d}.jpg'
        if not cv2.imwrite(str(folder / split / name), image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
            raise OSError(f'cannot write {split}/{name}')
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
        size (tuple): Ranges of width and height, see :func:`parse_size`. Defaults to 256x256.
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


def summarize(out: Path) -> Table:
    """Images, objects and the most frequent categories of each split of a set that this tool has made."""
    splits = read_json(out / RECIPE_FILE)['splits']
    cocos = [read_json(annotation_file(out, split)) for split in splits]
    counts = [Counter(a['category_id'] for a in coco['annotations']) for coco in cocos]
    names = {category['id']: category['name'] for coco in cocos for category in coco['categories']}
    ranked = sorted(names, key=lambda i: -sum(count[i] for count in counts))
    table = Table('', *splits, title=Text(str(out)), title_justify='left')
    table.add_row('images', *(str(len(coco['images'])) for coco in cocos))
    table.add_row('objects', *(str(len(coco['annotations'])) for coco in cocos), end_section=True)
    for i in ranked[:TABLE_ROWS]:
        table.add_row(Text(names[i]), *(str(count[i]) for count in counts))
    if len(ranked) > TABLE_ROWS:
        rest = ranked[TABLE_ROWS:]
        table.add_row(f'{len(rest)} more', *(str(sum(count[i] for i in rest)) for count in counts))
    return table


class OneLineParser(argparse.ArgumentParser):
    """argparse without the usage text before an error."""

    def error(self, message: str) -> None:
        self.exit(2, f'{self.prog}: error: {message} (see --help)\n')


def build_parser() -> argparse.ArgumentParser:
    """The command line, see ``--help``."""
    parser = OneLineParser(
        description=__doc__.split('\n')[0],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True, metavar='{generate,subset,crops}')

    common = argparse.ArgumentParser(add_help=False)
    common.add_argument('--force', action='store_true', help='replace OUT if this tool has made it')

    drawn = commands.add_parser(
        'generate',
        parents=[common],
        help='draw textured, overlapping shapes with exact polygons',
        description=f'Draw {", ".join(OUTLINES)}: categories told apart by shape alone.')
    drawn.add_argument('out', type=Path, metavar='OUT', help='folder to make')
    drawn.add_argument(
        '--num-train', type=int_from(1), default=240, metavar='N',
        help='training images, default %(default)s')
    drawn.add_argument(
        '--num-val', type=int_from(1), default=60, metavar='N',
        help='validation images, default %(default)s')
    drawn.add_argument(
        '--size', type=parse_size, default='256x256', metavar='WIDTHxHEIGHT',
        help='image size in pixels; a side may be a range, as in 192-320x256; default %(default)s')
    drawn.add_argument(
        '--max-objects', type=int_from(1), default=6, metavar='N',
        help='most objects in an image, default %(default)s')
    drawn.add_argument(
        '--seed', type=int_from(0), default=0, metavar='N',
        help='same seed, same bytes; default %(default)s')

    cut = commands.add_parser(
        'subset',
        parents=[common],
        help='keep the first annotated images of a COCO folder',
        description='Keep the first images, in the order of the annotation file, that have an annotation '
                    'to train on.')
    cut.add_argument('src', type=Path, metavar='SRC', help='COCO folder to read')
    cut.add_argument('out', type=Path, metavar='OUT', help='folder to make')
    cut.add_argument('--num-images', type=int_from(1), required=True, metavar='N', help='images a split')
    cut.add_argument(
        '--splits', nargs='+', default=SPLITS, metavar='SPLIT',
        help=f'splits to cut, default {" ".join(SPLITS)}')
    cut.add_argument('--symlink', action='store_true', help='link the images instead of copying them')

    objects = commands.add_parser(
        'crops',
        parents=[common],
        help='cut out the objects of a COCO folder, for a classifier',
        description='Cut out every object of both splits, in a folder a category.')
    objects.add_argument('src', type=Path, metavar='SRC', help='COCO folder to read')
    objects.add_argument('out', type=Path, metavar='OUT', help='folder to make')
    objects.add_argument(
        '--size', type=int_from(8), default=64, metavar='N', help='side of the pictures in pixels, default %(default)s')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = vars(build_parser().parse_args(argv))
    command = {'generate': generate, 'subset': subset, 'crops': crops}[arguments.pop('command')]
    out = arguments['out']
    try:
        if command(**arguments):
            Console().print(f'{out}: pictures of objects' if command is crops else summarize(out))
        else:
            print(f'{out} is already there, made with the same arguments: nothing to do')
    except (CocoFolderError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('interrupted: nothing was written', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
