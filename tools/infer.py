#!/usr/bin/env python
"""Predicts on images or on the frames of a video: writes all predictions to files, and draws them."""

import contextlib
import os
import sys
from collections import Counter
from itertools import islice
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parent))
import _bootstrap  # noqa: F401, I001  (first: it finds the package)

import cv2
import mmcv
import numpy as np
import torch
from mmengine.device import get_device
from rich.progress import Progress, TextColumn

from mmltm.apis.cli import add_cfg_options, add_data_root, make_parser
from mmltm.apis.config import load_config
from mmltm.apis.image_sources import Video, open_images
from mmltm.apis.inference import DetectionPredictor, build_predictor
from mmltm.apis.prediction_files import CocoResults, PredictionFile, annotated_ids
from mmltm.apis.preflight import check_ratio
from mmltm.engine.whole_files import check_writable
from mmltm.errors import TRACEBACK_SWITCH, UserError, run, summary
from mmltm.models.checkpoints import check_file
from mmltm.visualization.picture_paths import PicturePaths

EXAMPLES = """
examples:
  # boxes and masks on one picture
  python tools/infer.py street.jpg configs/mini/mask_rcnn_ltm_effvit_mini.py \\
      work_dirs/mask_rcnn_ltm_effvit_mini/epoch_24.pth --out-dir work_dirs/street

  # a folder, eight images at a time; results for pycocotools or COCO's server
  python tools/infer.py data/coco/val2017 configs/mask_rcnn_ltm_effvit_b1_1x.py epoch_12.pth \\
      --out-dir work_dirs/val2017 --batch-size 8

  # a drawn video; the same for a pattern, in quotes: 'photographs/**/*.jpg'
  python tools/infer.py street.mp4 configs/mask_rcnn_ltm_effvit_b1_1x.py epoch_12.pth --out-dir work_dirs/street --draw

Of a detector DIR/results.bbox.json and, if it has masks, DIR/results.segm.json are COCO's results, with the ids of the
annotation file of the config's test set where the images are in it. DIR/images.json has all ids with their names:
COCO('DIR/images.json').loadRes('DIR/results.segm.json'). Else DIR/predictions.json has of each image, of a classifier,
label, class and all scores, and of a segmentor the labels and a mask (COCO's run lengths) of each. Pictures go to
DIR/pictures/, under their names and in their sub-folders, a video to DIR/NAME.mp4. The files are whole after each
image, so an interrupted run loses nothing. An image that cannot be used is named, skipped and counted; the tool fails
only if none can. MMLTM_TRACEBACK=1 shows where an error arose, and stops there.
"""


def get_args():
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('images', help='image, video, folder of images, in sub-folders too, or quoted pattern')
    parser.add_argument('config', help='config file, or mmdet::... / mmpretrain::... for one of theirs')
    parser.add_argument('checkpoint', help='checkpoint file or URL')
    parser.add_argument('--out-dir', required=True, metavar='DIR', help='where results go')
    parser.add_argument('--device', default=get_device(), help='such as cpu or cuda:1; default: %(default)s')
    parser.add_argument(
        '--score-thr', type=float, default=0.3, metavar='SCORE',
        help='draw instances with at least this score; default: %(default)s')
    parser.add_argument('--batch-size', type=int, default=1, metavar='N', help='images at a time; default: 1')
    parser.add_argument(
        '--draw', action='store_true', help='draw pictures, or a video; a single image is drawn in any case')
    add_data_root(parser)
    add_cfg_options(parser)
    args = parser.parse_args()
    if args.batch_size < 1:
        parser.error(f'argument --batch-size: must be at least 1, got {args.batch_size}')
    return args


@contextlib.contextmanager
def skipping(report):
    """Whatever goes wrong with one image is told to ``report`` and ends nothing."""
    try:
        yield
    except Exception as error:
        if os.environ.get(TRACEBACK_SWITCH) == '1':
            raise
        report(summary(error))


@contextlib.contextmanager
def drawing(source, out_dir):
    """A function that saves a picture, (H, W, 3), BGR, by its name: in a file of its own or as the next of a video."""
    if isinstance(source, Video):
        path = out_dir / f'{source.path.stem}.mp4'
        if path.exists() and path.samefile(source.path):
            raise UserError(f'the drawn video would take the place of {path}: choose another --out-dir')
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), source.fps, source.size)
        if not writer.isOpened():
            raise UserError(f'cannot write video {path}')
        try:
            yield lambda name, picture: writer.write(picture)
        finally:
            writer.release()
    else:
        paths = PicturePaths(str(out_dir / 'pictures'), source.names)
        yield lambda name, picture: mmcv.imwrite(picture, paths(name))


class Clock(Counter):
    """Seconds by part of the work: ``with clock('model'): ...``."""

    @contextlib.contextmanager
    def __call__(self, part):
        start = perf_counter()
        try:
            yield
        finally:
            self[part] += perf_counter() - start


def predict(predictor, source, results, args, save=None):
    """Writes the predictions for all images that can be used, and has ``save`` take pictures of them."""
    def skip(name):
        return skipping(lambda reason: results.skip(name, reason))

    clock, start, numbered = Clock(), perf_counter(), enumerate(source, 1)
    with Progress(*Progress.get_default_columns(), TextColumn('{task.fields[speed]}')) as progress:
        bar = progress.add_task('Images', total=len(source) or None, speed='')
        while True:
            with clock('decoding'):
                batch = list(islice(numbered, args.batch_size))
            if not batch:
                break
            images, samples = {}, {}
            for number, (name, image) in batch:
                with skip(name):
                    if isinstance(image, Exception):
                        raise image
                    images[name] = number, image
            with clock('model'):
                try:
                    arrays = [image for _, image in images.values()]
                    samples.update(zip(images, predictor.predict(arrays) if images else []))
                except Exception:  # because of one image, or of too many: each by itself
                    for name, (_, image) in images.items():
                        with skip(name):
                            samples[name] = predictor.predict([image])[0]
                if args.device.startswith('cuda'):  # it works on while Python goes on
                    torch.cuda.synchronize(args.device)
            for name, sample in samples.items():
                number, image = images[name]
                with clock('writing'):
                    results.add(number, name, image.shape, predictor.describe(sample))
                if save:
                    with clock('drawing'), skipping(
                            lambda reason, name=name: print(f'cannot draw {name}: {reason}', file=sys.stderr)):
                        rgb = np.ascontiguousarray(image[..., ::-1])
                        save(name, np.ascontiguousarray(predictor.draw(rgb, sample, args.score_thr)[..., ::-1]))
            progress.update(bar, advance=len(batch),
                            speed=f'{results.count / (perf_counter() - start):.1f} frames per second')
    seconds = perf_counter() - start
    shares = ', '.join(f'{part} {clock[part] / seconds:.0%}' for part in ('decoding', 'model', 'drawing', 'writing'))
    print(f'{results.count} images in {seconds:.1f} s: {results.count / seconds:.1f} frames per second ({shares})')


def main():
    args = get_args()
    out_dir = Path(args.out_dir)
    source = open_images(args.images, out_dir)
    cfg = load_config(args.config, args.cfg_options, args.data_root, needs=('model', 'test_dataloader'))
    check_ratio(cfg)
    check_file('checkpoint', args.checkpoint)
    check_writable('--out-dir', args.out_dir, 'choose another one')
    predictor, note = build_predictor(cfg, args.checkpoint, args.device), ''
    if isinstance(predictor, DetectionPredictor):
        paths = {} if isinstance(source, Video) else dict(zip(source.names, source.paths))
        *ids, note = annotated_ids(cfg, predictor.classes, paths)
        results = CocoResults(out_dir, predictor.classes, *ids)
    else:
        results = PredictionFile(out_dir, predictor.classes)
    with drawing(source, out_dir) if args.draw or len(source) == 1 else contextlib.nullcontext() as save:
        predict(predictor, source, results, args, save)
    if not results.count:
        reason = next(iter(results.skipped.values()))
        raise UserError(f'none of the {len(source)} images in {args.images} can be used; the first: {reason}')
    print(f'{results.count} images done, {len(results.skipped)} skipped; see {args.out_dir}{note}')


if __name__ == '__main__':
    run(main)
