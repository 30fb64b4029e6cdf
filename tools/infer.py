#!/usr/bin/env python
"""Predicts on one image or on a folder of images: draws pictures, and writes all predictions to a file."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import _bootstrap  # noqa: F401, I001  (first: it finds the package)

import mmcv
from mmdet.apis.det_inferencer import IMG_EXTENSIONS
from mmengine.device import get_device
from mmengine.fileio import dump
from rich.progress import track

from mmltm.apis.cli import CfgOptions, make_parser
from mmltm.apis.config import load_config
from mmltm.apis.inference import build_predictor
from mmltm.apis.preflight import check_ratio
from mmltm.errors import UserError, run, summary
from mmltm.models.checkpoints import check_file

EXAMPLES = """
examples:
  # boxes and masks on one picture
  python tools/infer.py street.jpg configs/mini/mask_rcnn_ltm_effvit_mini.py \\
      work_dirs/mask_rcnn_ltm_effvit_mini/epoch_24.pth --out-dir work_dirs/street

  # a folder, eight images at a time; predictions without pictures
  python tools/infer.py data/coco/val2017 configs/mask_rcnn_ltm_effvit_b1_1x.py epoch_12.pth \\
      --out-dir work_dirs/val2017 --batch-size 8 --no-vis

DIR/pictures/ holds a picture for each image, under its name, and DIR/predictions.json all predictions: for a
detector labels, scores, bboxes (x1, y1, x2, y2) and masks (COCO's run lengths), for a classifier label, class
and all scores. An image that cannot be decoded is named, skipped and counted. MMLTM_TRACEBACK=1 shows where an
error arose.
"""


def get_args():
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('image', help='image, or folder of images (not of its sub-folders)')
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
    parser.add_argument(
        '--cfg-options', nargs='+', action=CfgOptions, metavar='KEY=VALUE', help='override settings of the config')
    args = parser.parse_args()
    if args.batch_size < 1:
        parser.error(f'argument --batch-size: must be at least 1, got {args.batch_size}')
    return args


def find_images(name):
    """The image of that name, or all in the folder of that name, in alphabetical order."""
    path = Path(name).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f'image or folder {name} does not exist')
    images = sorted(file for file in path.iterdir() if file.suffix.lower() in IMG_EXTENSIONS)
    if not images:
        raise UserError(f'folder {name} holds no image ({", ".join(IMG_EXTENSIONS)})')
    return images


def read_image(path):
    """The image in RGB, or None if it cannot be decoded, which is said."""
    reason = 'no image, or a damaged one'
    try:
        image = mmcv.imread(path, channel_order='rgb')
    except Exception as error:  # decoding backends each have their own
        image, reason = None, summary(error)
    if image is None:
        print(f'skipped {path}: {reason}', file=sys.stderr)
    return image


def predict(predictor, paths, args):
    """Predictions of all images that can be decoded, by file name; draws them on the way."""
    pictures, results = Path(args.out_dir) / 'pictures', {}
    batches = [paths[i:i + args.batch_size] for i in range(0, len(paths), args.batch_size)]
    for batch in track(batches, description='Images'):
        images = {path: image for path in batch if (image := read_image(path)) is not None}
        samples = predictor.predict([str(path) for path in images]) if images else []
        for (path, image), sample in zip(images.items(), samples):
            results[path.name] = predictor.describe(sample)
            if not args.no_vis:
                predictor.draw(image, sample, str(pictures / path.name), args.score_thr)
    return results


def main():
    args = get_args()
    paths = find_images(args.image)
    cfg = load_config(args.config, args.cfg_options, needs=('model', 'test_dataloader'))
    check_ratio(cfg)
    check_file('checkpoint', args.checkpoint)
    predictor = build_predictor(cfg, args.checkpoint, args.device)
    Path(args.out_dir).mkdir(parents=True, exist_ok=True)
    results = predict(predictor, paths, args)
    skipped = [path.name for path in paths if path.name not in results]
    if not results:
        raise UserError(f'none of the {len(paths)} images in {args.image} can be decoded')
    if not args.no_pred:
        content = dict(classes=predictor.classes, images=results, skipped=skipped)
        dump(content, str(Path(args.out_dir) / 'predictions.json'))
    print(f'{len(results)} images done, {len(skipped)} skipped; see {args.out_dir}')


if __name__ == '__main__':
    run(main)
