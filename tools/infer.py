#!/usr/bin/env python
"""Predicts on one image or on a folder of images: draws pictures, and writes all predictions to a file."""

import contextlib
import errno
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import _bootstrap  # noqa: F401, I001  (first: it finds the package)

import numpy as np
from mmdet.apis.det_inferencer import IMG_EXTENSIONS
from mmengine.device import get_device
from mmengine.fileio import dump
from rich.progress import track

from mmltm.apis.cli import add_cfg_options, make_parser
from mmltm.apis.config import load_config
from mmltm.apis.inference import build_predictor
from mmltm.apis.preflight import check_ratio
from mmltm.datasets import LoadImage
from mmltm.engine.whole_files import check_writable
from mmltm.errors import TRACEBACK_SWITCH, UserError, run, summary
from mmltm.models.checkpoints import check_file
from mmltm.visualization.picture_paths import PicturePaths

EXAMPLES = """
examples:
  # boxes and masks on one picture
  python tools/infer.py street.jpg configs/mini/mask_rcnn_ltm_effvit_mini.py \\
      work_dirs/mask_rcnn_ltm_effvit_mini/epoch_24.pth --out-dir work_dirs/street

  # a folder, eight images at a time; predictions without pictures
  python tools/infer.py data/coco/val2017 configs/mask_rcnn_ltm_effvit_b1_1x.py epoch_12.pth \\
      --out-dir work_dirs/val2017 --batch-size 8 --no-vis

DIR/pictures/ holds a picture for each image, under its name and in its sub-folder, and DIR/predictions.json all
predictions: for a detector labels, scores, bboxes (x1, y1, x2, y2) and masks (COCO's run lengths), for a
classifier label, class and all scores. The file is whole after each image, so an interrupted run loses nothing.
An image that cannot be used is named, skipped and counted; the tool fails only if none can. MMLTM_TRACEBACK=1
shows where an error arose, and stops there.
"""


def get_args():
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('image', help='image, or folder of images, in sub-folders too')
    parser.add_argument('config', help='config file, or mmdet::... / mmpretrain::... for one of theirs')
    parser.add_argument('checkpoint', help='checkpoint file or URL')
    parser.add_argument('--out-dir', required=True, metavar='DIR', help='where results go')
    parser.add_argument('--device', default=get_device(), help='such as cpu or cuda:1; default: %(default)s')
    parser.add_argument(
        '--score-thr', type=float, default=0.3, metavar='SCORE',
        help='draw instances with at least this score; default: %(default)s')
    parser.add_argument('--batch-size', type=int, default=1, metavar='N', help='images at a time; default: 1')
    parser.add_argument('--no-vis', action='store_true', help='draw no pictures')
    parser.add_argument('--no-pred', action='store_true', help='write no predictions.json')
    add_cfg_options(parser)
    args = parser.parse_args()
    if args.batch_size < 1:
        parser.error(f'argument --batch-size: must be at least 1, got {args.batch_size}')
    return args


def find_images(name, out_dir):
    """The image of that name, or all in the folder of that name and below it but not in ``out_dir``, by name."""
    path = Path(name).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f'image or folder {name} does not exist')
    results = out_dir.resolve()
    images = sorted(file for file in path.rglob('*') if file.suffix.lower() in IMG_EXTENSIONS and file.is_file()
                    and results not in file.resolve().parents)
    if not images:
        raise UserError(f'folder {name} holds no image ({", ".join(IMG_EXTENSIONS)})')
    return images


class PredictionFile:
    """A JSON file of predictions that is whole after each image: an interrupted run leaves what it has done.

    Args:
        path (Path): The file, which is overwritten by the first prediction; None for none.
        classes (Sequence[str]): Names of the classes.
    """

    def __init__(self, path, classes):
        self.count, self.skipped = 0, {}
        self._path, self._file, self._end = path, None, b''
        self._start = f'{{"classes": {dump(classes, file_format="json")},\n"images": {{'

    def add(self, name, prediction):
        """Writes the predictions for one image."""
        if self._path and not self._file:
            self._file = self._path.open('wb', buffering=0)
        self._write(f'{"," if self.count else self._start}\n{json.dumps(name)}: {dump(prediction, file_format="json")}')
        self.count += 1

    def skip(self, path, name, reason):
        """Notes an image that cannot be used, and says why."""
        self.skipped[name] = reason
        print(f'skipped {path}: {reason}', file=sys.stderr)
        self._write('')

    def _write(self, entry):
        if not self._file:
            return
        end = f'\n}},\n"skipped": {json.dumps(list(self.skipped))}}}\n'.encode()
        content, place = entry.encode() + end, self._file.tell()
        try:  # at once, over the end that was written before
            if self._file.write(content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        except OSError:
            self._file.seek(place)
            self._file.write(self._end)
            self._file.truncate()
            raise
        self._file.seek(-len(end), os.SEEK_END)
        self._end = end


@contextlib.contextmanager
def skipping(report):
    """Whatever goes wrong with one image is told to ``report`` and ends nothing."""
    try:
        yield
    except Exception as error:
        if os.environ.get(TRACEBACK_SWITCH) == '1':
            raise
        report(summary(error))


def predict(predictor, paths, args, file):
    """Writes the predictions of all images that can be used, and draws them."""
    load, folder = LoadImage(), Path(args.image).expanduser()
    picture = PicturePaths(str(Path(args.out_dir) / 'pictures'), [str(path) for path in paths])
    names = {path: path.relative_to(folder).as_posix() if path != folder else path.name for path in paths}

    def skip(path):
        return skipping(lambda reason: file.skip(path, names[path], reason))

    for batch in track([paths[i:i + args.batch_size] for i in range(0, len(paths), args.batch_size)], 'Images'):
        images, samples = {}, {}
        for path in batch:
            with skip(path):
                images[path] = load(dict(img_path=str(path)))['img']
        try:
            samples.update(zip(images, predictor.predict(list(images.values())) if images else []))
        except Exception:  # because of one image, or of too many: each by itself
            for path, image in images.items():
                with skip(path):
                    samples[path] = predictor.predict([image])[0]
        for path, sample in samples.items():
            file.add(names[path], predictor.describe(sample))
            if not args.no_vis:
                with skipping(lambda reason, path=path: print(f'cannot draw {path}: {reason}', file=sys.stderr)):
                    image = np.ascontiguousarray(images[path][..., ::-1])
                    predictor.draw(image, sample, picture(str(path)), args.score_thr)


def main():
    args = get_args()
    out_dir = Path(args.out_dir)
    paths = find_images(args.image, out_dir)
    cfg = load_config(args.config, args.cfg_options, needs=('model', 'test_dataloader'))
    check_ratio(cfg)
    check_file('checkpoint', args.checkpoint)
    check_writable('--out-dir', args.out_dir, 'choose another one')
    predictor = build_predictor(cfg, args.checkpoint, args.device)
    file = PredictionFile(None if args.no_pred else out_dir / 'predictions.json', predictor.classes)
    predict(predictor, paths, args, file)
    if not file.count:
        reason = next(iter(file.skipped.values()))
        raise UserError(f'none of the {len(paths)} images in {args.image} can be used; the first: {reason}')
    print(f'{file.count} images done, {len(file.skipped)} skipped; see {args.out_dir}')


if __name__ == '__main__':
    run(main)
