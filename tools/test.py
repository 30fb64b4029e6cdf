#!/usr/bin/env python
"""Tests a checkpoint with a config of mmdet, mmpretrain or mmseg: prints metrics, saves predictions and pictures."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import _bootstrap  # noqa: F401, I001  (first: it finds the package)

from mmltm.apis.checkpoint_checks import check_classes
from mmltm.apis.cli import add_common_arguments, make_parser, parse_args
from mmltm.apis.config import load_config
from mmltm.apis.outputs import finish_out, set_out, set_show
from mmltm.apis.preflight import check_config, is_first_on_machine
from mmltm.apis.runner import build_loop, build_runner, prepare_work_dir
from mmltm.apis.tta import set_tta
from mmltm.datasets.loading import guard_loading
from mmltm.engine.runner_utils import unwrapped_model
from mmltm.errors import run
from mmltm.models.checkpoints import check_tested, read_checkpoint

EXAMPLES = """
examples:
  # box and mask mAP, with pictures of ground truth (left) and predictions (right)
  python tools/test.py configs/mini/mask_rcnn_ltm_effvit_mini.py \\
      work_dirs/mask_rcnn_ltm_effvit_mini/epoch_24.pth --show-dir work_dirs/pictures

  # COCO from a folder of your choice; results for pycocotools in results.bbox.json and results.segm.json
  python tools/test.py configs/mask_rcnn_ltm_effvit_b1_1x.py epoch_12.pth --data-root /data/coco \\
      --out results.pkl

  # flipped and in three sizes
  python tools/test.py configs/mask_rcnn_ltm_effvit_b1_1x.py epoch_12.pth --tta 0.75 1 1.25

MMLTM_TRACEBACK=1 shows where an error arose. Several GPUs: tools/dist_test.sh.
"""


def get_args():
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('config', help='config file, or mmdet::... / mmpretrain::... for one of theirs')
    parser.add_argument('checkpoint', help='checkpoint file or URL')
    add_common_arguments(parser)
    parser.add_argument(
        '--out', metavar='FILE',
        help='save the predictions in FILE.json or FILE.pkl; with a COCO metric also FILE.bbox.json and FILE.segm.json '
        'in the result format of COCO, which COCO.loadRes() of pycocotools reads')
    parser.add_argument('--show', action='store_true', help='show each picture in a window')
    parser.add_argument(
        '--show-dir', metavar='DIR', help='save a picture of each image with its predictions in DIR')
    parser.add_argument(
        '--tta', nargs='*', type=float, metavar='SCALE',
        help="test-time augmentation by the config's tta_model and tta_pipeline, else by flips and, if given, in sizes "
        'of the test times each SCALE: --tta 0.75 1 1.25')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds between windows; default: 2')
    return parse_args(parser)


def main():
    args = get_args()
    cfg = load_config(
        args.config, args.cfg_options, args.data_root, args.work_dir, args.launcher,
        needs=('model', 'test_dataloader', 'test_cfg', 'test_evaluator'))
    cfg.load_from = args.checkpoint
    cfg.resume = False
    cfg.pop('strategy', None)  # one of training, whose checkpoints hold the whole model
    prepare_work_dir(cfg)
    if args.show or args.show_dir:
        set_show(cfg, args.show, args.show_dir, args.wait_time)
    if args.out:
        set_out(cfg, args.out)
    first = is_first_on_machine(args.launcher)
    if first:
        labels = check_config(cfg, splits=('test',))
        checkpoint = read_checkpoint(args.checkpoint)
        check_classes(args.checkpoint, checkpoint, labels)
    if args.tta is not None:
        set_tta(cfg, args.tta)
    guard_loading(cfg)
    runner = build_runner(cfg)
    if first:
        model = unwrapped_model(runner)
        check_tested(model if args.tta is None else model.module, args.checkpoint, checkpoint, runner.logger)
    build_loop(runner, 'test')
    runner.test()
    if args.out:
        finish_out(cfg)


if __name__ == '__main__':
    run(main)
