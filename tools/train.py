#!/usr/bin/env python
"""Trains a model from a config of mmdet, mmpretrain or mmseg."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import _bootstrap  # noqa: F401, I001  (first: it finds the package)

import torch

from mmltm.apis.cli import add_common_arguments, make_parser, parse_args
from mmltm.apis.config import load_config
from mmltm.apis.preflight import check_config, check_statistics, is_first_on_machine
from mmltm.apis.runner import build_loop, build_runner, prepare_work_dir
from mmltm.datasets.loading import guard_loading
from mmltm.errors import UserError, run
from mmltm.apis.checkpoint_checks import check_trained

EXAMPLES = """
examples:
  # the mini set on a CPU
  python tools/train.py configs/mini/mask_rcnn_ltm_effvit_mini.py

  # COCO, from a folder of your choice
  python tools/train.py configs/mask_rcnn_ltm_effvit_b1_1x.py --data-root /data/coco --amp

  # a trial run with other settings, then on from its last checkpoint
  python tools/train.py configs/mask_rcnn_ltm_effvit_b1_1x.py --work-dir work_dirs/trial \\
      --cfg-options train_cfg.max_epochs=1 train_dataloader.batch_size=4
  python tools/train.py configs/mask_rcnn_ltm_effvit_b1_1x.py --work-dir work_dirs/trial --resume

Corrupt training images are left out, named and counted in the log. MMLTM_TRACEBACK=1 shows where an
error arose. Several GPUs: tools/dist_train.sh.
"""


def get_args():
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('config', help='config file, or mmdet::... / mmpretrain::... for one of theirs')
    add_common_arguments(parser)
    parser.add_argument(
        '--resume', nargs='?', const='auto', metavar='CHECKPOINT',
        help='go on with a training, from CHECKPOINT or else from the latest one in the work dir')
    parser.add_argument('--amp', action='store_true',
                        help='train in mixed precision: float16 on a GPU, bfloat16 on a CPU')
    parser.add_argument(
        '--auto-scale-lr', action='store_true',
        help="scale the learning rate by total batch size over the config's auto_scale_lr.base_batch_size")
    return parse_args(parser)


def apply_options(cfg, args):
    """Applies the options that concern training only."""
    if args.amp and torch.cuda.is_available():
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    elif args.amp:
        cfg.optim_wrapper.type = 'mmltm.BFloat16OptimWrapper'
    if args.auto_scale_lr:
        if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
            raise UserError(f'--auto-scale-lr needs auto_scale_lr.base_batch_size in {args.config}')
        cfg.auto_scale_lr.enable = True
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume


def main():
    args = get_args()
    cfg = load_config(
        args.config, args.cfg_options, args.data_root, args.work_dir, args.launcher,
        needs=('model', 'train_dataloader', 'train_cfg', 'optim_wrapper'))
    apply_options(cfg, args)
    prepare_work_dir(cfg)
    guard_loading(cfg)
    first = is_first_on_machine(args.launcher)
    if first:
        labels = check_config(cfg, splits=('train', 'val'))
    runner = build_runner(cfg)
    if first:
        check_statistics(runner)
        check_trained(runner, cfg, labels)
    build_loop(runner, 'train')
    build_loop(runner, 'val')
    runner.train()


if __name__ == '__main__':
    run(main)
