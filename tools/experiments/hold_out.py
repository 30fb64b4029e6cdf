"""Moves images from training to test: a data set whose test tells smaller differences apart."""

from pathlib import Path

from rich.progress import track

from mmltm.apis.cli import make_parser
from mmltm.errors import UserError, run

EXAMPLES = """example:
  python tools/experiments/hold_out.py data/imagenette128 data/imagenette128_4000 --per-class 200

DATA holds train/ and val/ with a folder of images a class. OUT gets links to the same files, with the last images of
each class's training folder, by name, in val/ in place of train/. Models must be trained on OUT's train/ then, those
that others start from and learn from, too.
"""


def parse_args():
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('data', type=Path, metavar='DATA')
    parser.add_argument('out', type=Path, metavar='OUT')
    parser.add_argument('--per-class', type=int, default=200, metavar='N', help='images to move; default: 200')
    return parser.parse_args()


def main():
    args = parse_args()
    if args.out.exists():
        raise UserError(f'{args.out} is there already: name a folder to be made')
    folders = sorted(path for path in (args.data / 'train').glob('*') if path.is_dir())
    if not folders:
        raise UserError(f'{args.data}/train holds no folder of images')
    if not all(0 < args.per_class < len(list(folder.iterdir())) for folder in folders):
        raise UserError(f'--per-class {args.per_class}: every class must keep images to train on, and give some')
    for folder in track(folders, 'classes'):
        images = sorted(folder.iterdir())
        for split, files in (('train', images[:-args.per_class]),
                             ('val', [*images[-args.per_class:], *(args.data / 'val' / folder.name).glob('*')])):
            target = args.out / split / folder.name
            target.mkdir(parents=True)
            for file in files:
                (target / file.name).symlink_to(file.resolve())


if __name__ == '__main__':
    run(main)
