"""Make a small detection set in the COCO layout, drawn from a seed or cut out of a COCO folder, or crops of objects.

`generate` draws textured, overlapping shapes (see shape_scenes.py) with their exact polygons, free of
any download and licence. `subset` keeps the first images of a COCO folder that have a valid
annotation. Both write::

    OUT/annotations/instances_train2017.json  OUT/annotations/instances_val2017.json
    OUT/train2017/*.jpg                       OUT/val2017/*.jpg
    OUT/mini_coco.json                        how the set was made

`generate` also writes label maps, 0 for the background and else the category's id, for semantic segmentation::

    OUT/annotations/train2017/*.png           OUT/annotations/val2017/*.png

`crops` cuts the objects out of such a folder, for a classifier to pre-train a detector's backbone with::

    OUT/train2017/CATEGORY/*.jpg              OUT/val2017/CATEGORY/*.jpg

OUT appears only when it is complete; a second call with the same arguments finds it and does nothing.
"""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from coco_folder import RECIPE_FILE, SPLITS, CocoFolderError, annotation_file, read_json
from cut_coco import crops, subset
from draw_coco import SizeRange, generate
from shape_scenes import OUTLINES

MIN_SIDE, MAX_SIDE = 64, 2048
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
