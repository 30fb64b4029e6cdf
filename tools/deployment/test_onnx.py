#!/usr/bin/env python
"""Scores an exported model by the test set and the metrics of a config, as tools/test.py scores a checkpoint.

Images go through tools/deployment/infer_onnx.py from the file on: what is scored is what a device computes.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(folder) for folder in Path(__file__).resolve().parents[:2]]
import _bootstrap  # noqa: F401, I001  (first: it finds the package)

import numpy as np
import torch
from mmengine.model import BaseModel
from mmengine.structures import InstanceData

from infer_onnx import OnnxModel, InputError, read_image
from mmltm.apis.checkpoint_checks import check_classes
from mmltm.apis.cli import add_common_arguments, make_parser, parse_args
from mmltm.apis.config import load_config
from mmltm.apis.preflight import check_config
from mmltm.apis.runner import build_loop, build_runner
from mmltm.datasets.loading import guard_loading
from mmltm.errors import UserError, run
from mmltm.registry import MODELS

EXAMPLES = """
examples:
  python tools/deployment/test_onnx.py configs/mini/mask_rcnn_ltm_effvit_mini.py mask_rcnn.onnx \\
      --data-root data/mini_coco
  python tools/deployment/test_onnx.py configs/imagenette/efficientvit_b0_imagenette128.py b0_int8.onnx
"""


@MODELS.register_module(force=True)  # runpy may run this file twice in one process
class ExportedModel(BaseModel):
    """An ONNX model in the place of a config's: predicts for the image files that the samples name."""

    def __init__(self, path, **kwargs):
        super().__init__(**kwargs)
        self.onnx = OnnxModel(path)

    def forward(self, inputs, data_samples=None, mode='predict'):
        for sample in data_samples:
            found = self.onnx.predict(read_image(sample.img_path))
            if 'pred_label' in found:
                sample.set_pred_score(torch.tensor(found['pred_scores'])).set_pred_label(found['pred_label'])
                continue
            sample.pred_instances = InstanceData(
                bboxes=torch.tensor(found['bboxes']).view(-1, 4), scores=torch.tensor(found['scores']),
                labels=torch.tensor(found['labels'], dtype=torch.int64))
            if 'masks' in found:
                masks = np.array(found['masks'], bool).reshape(-1, *sample.ori_shape)
                sample.pred_instances.masks = torch.from_numpy(masks)
        return data_samples


def get_args():
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('config', help='config file, or mmdet::... / mmpretrain::... for one of theirs')
    parser.add_argument('model', metavar='MODEL.onnx', help='what tools/deployment/export.py has written')
    add_common_arguments(parser)
    return parse_args(parser)


def main():
    args = get_args()
    cfg = load_config(args.config, args.cfg_options, args.data_root, args.work_dir,
                      needs=('model', 'test_dataloader', 'test_cfg', 'test_evaluator'))
    model = OnnxModel(args.model)
    if (model.meta['kind'] == 'detector') != (cfg.default_scope == 'mmdet'):
        raise UserError(f"{args.model} is a {model.meta['kind']}, but {args.config} is for {cfg.default_scope}")
    labels = check_config(cfg, splits=('test',))
    check_classes(args.model, dict(meta=dict(classes=model.classes)), labels)
    for key, (names, *_) in labels.items():
        if model.classes and len(names) != len(model.classes):
            raise UserError(f'{key} has {len(names)} classes, {args.model} {len(model.classes)}')
    guard_loading(cfg)
    cfg.model = dict(type='mmltm.ExportedModel', path=args.model)
    cfg.update(load_from=None, resume=False, custom_hooks=[])
    cfg.pop('data_preprocessor', None)  # the exported model's own normalises
    runner = build_runner(cfg)
    build_loop(runner, 'test')
    runner.test()


if __name__ == '__main__':
    run(main, InputError)
