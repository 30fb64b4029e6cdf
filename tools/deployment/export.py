#!/usr/bin/env python
"""Exports a model with its weights to one file: ONNX (.onnx) or a program of torch.export (.pt2).

Classifiers give scores, detectors boxes, scores, labels and masks, --backbone feature maps. Normalisation is part of
the model; how images are resized and padded, and the names of the classes, travel in the metadata.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(folder) for folder in Path(__file__).resolve().parents[:2]]
import _bootstrap  # noqa: F401, I001  (first: it finds the package)

import json

import cv2
import numpy as np
import torch
from mmdet.apis.det_inferencer import IMG_EXTENSIONS
from rich.progress import track

from infer_onnx import OnnxModel, prepare
import mmltm
from mmltm.apis.cli import add_cfg_options, make_parser
from mmltm.apis.config import load_config
from mmltm.apis.export import quantise, trace, write_onnx
from mmltm.apis.export_metadata import image_steps, input_shape, padding
from mmltm.apis.inference import build_predictor
from mmltm.errors import UserError, run
from mmltm.models.checkpoints import check_file
from mmltm.models.exportable import exportable

EXAMPLES = """
examples:
  # for images as the config's test prepares them, one at a time; compared with PyTorch on real ones
  python tools/deployment/export.py configs/mini/mask_rcnn_ltm_effvit_mini.py epoch_24.pth mask_rcnn.onnx \\
      --verify data/mini_coco/val2017

  # several images at once, int8, with ranges from images of the training set
  python tools/deployment/export.py configs/imagenette/ltm_efficientvit_b0_imagenette128.py epoch_30.pth b0.onnx \\
      --dynamic batch --int8 data/imagenette128/train

tools/deployment/infer_onnx.py predicts with the result, tools/deployment/test_onnx.py scores it. docs/deploy.md says
what exports and what does not. MMLTM_TRACEBACK=1 shows where an error arose.
"""


def get_args():
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument('config', help='config file, or mmdet::... / mmpretrain::... for one of theirs')
    parser.add_argument('checkpoint', help='checkpoint file or URL')
    parser.add_argument('out', help='file to write, .onnx or .pt2')
    parser.add_argument('--shape', nargs=2, type=int, metavar=('H', 'W'),
                        help="size of the input in pixels; default: what the config's test pipeline leads to")
    parser.add_argument(
        '--dynamic', nargs='+', choices=['batch', 'size'], default=[], help='what may differ from run to run')
    parser.add_argument('--backbone', action='store_true', help='the feature maps of the backbone alone')
    parser.add_argument('--fp16', action='store_true', help='weights and features in float16; boxes stay float32')
    parser.add_argument('--int8', metavar='FOLDER', help='quantise convolutions and products (.onnx), with ranges from '
                        '200 images in FOLDER and below')
    parser.add_argument('--verify', metavar='IMAGE|FOLDER', help='compare predictions with those of PyTorch (.onnx)')
    parser.add_argument('--data-root', metavar='DIR', help='folder of the test set, if the checkpoint knows no classes')
    add_cfg_options(parser)
    args = parser.parse_args()
    args.out = Path(args.out)
    if args.out.suffix not in ('.onnx', '.pt2'):
        parser.error(f'OUT {args.out} must end in .onnx or .pt2')
    if args.out.suffix == '.pt2' and (args.int8 or args.verify):
        parser.error('--int8 and --verify are for .onnx')
    if args.fp16 and args.int8:
        parser.error('--fp16 and --int8 exclude each other')
    return args


def find_images(name, most):
    """At most so many images of a folder and its sub-folders, evenly spread; or the one of that name."""
    path = Path(name)
    paths = [path] if path.is_file() else sorted(
        file for file in path.rglob('*') if file.suffix.lower() in IMG_EXTENSIONS)
    if not paths:
        raise UserError(f'{name} is neither an image nor a folder that holds any')
    return [paths[i] for i in np.linspace(0, len(paths) - 1, min(most, len(paths))).astype(int)]


def inputs(paths, meta, names, what):
    """The model's inputs for images, as ONNX Runtime takes them."""
    for path in track(paths, description=what):
        pixels, size, _ = prepare(cv2.imread(str(path)), meta)
        values = dict(image=pixels[None], size=np.array([size], np.float32))
        yield {name: values[name] for name in names}


def agreement(found, sample):
    """How much of PyTorch's predictions is found again, and the largest differences of scores and boxes in that."""
    if 'pred_label' in found:
        return [found['pred_label'] == int(sample.pred_score.argmax())], [
            np.abs(found['pred_scores'] - sample.pred_score.numpy()).max()], [0.]
    wanted = sample.pred_instances.numpy()
    boxes, labels, scores = (np.array(found[key]) for key in ('bboxes', 'labels', 'scores'))
    if not len(wanted) or not len(boxes):
        return [False] * len(wanted), [], []
    apart = np.abs(boxes.reshape(1, -1, 4) - wanted.bboxes[:, None]).max(2)
    apart[labels[None] != wanted.labels[:, None]] = np.inf
    nearest = apart.argmin(1)
    again = apart.min(1) < 1  # pixel
    if 'masks' in found:
        masks = np.stack(found['masks'])[nearest]
        again &= (masks & wanted.masks).sum((1, 2)) >= 0.99 * (masks | wanted.masks).sum((1, 2))
    return again, np.abs(scores[nearest] - wanted.scores)[again], apart.min(1)[again]


def verify(path, predictor, paths, share):
    """Prints how far predictions of an exported model are from PyTorch's; too little agreement is an error."""
    model = OnnxModel(str(path))
    parts = [agreement(model.predict(cv2.imread(str(image))), predictor.predict([str(image)])[0])
             for image in track(paths, description='Verifying')]
    again, scores, boxes = (np.concatenate(part) for part in zip(*parts))
    kind = 'top-1' if model.meta['kind'] == 'classifier' else 'boxes and masks of the same class within a pixel'
    print(f'{len(paths)} images: {again.sum():.0f} of {len(again)} {kind} as in PyTorch, scores within '
          f'{scores.max(initial=0):.1e}, boxes within {boxes.max(initial=0):.1e} px')
    if again.mean() < share:
        raise UserError(f'{path} predicts otherwise than PyTorch: {again.mean():.1%} agree, {share:.0%} should')


def main():
    args = get_args()
    cfg = load_config(args.config, args.cfg_options, args.data_root, needs=('model', 'test_dataloader'))
    check_file('checkpoint', args.checkpoint)
    calibration = find_images(args.int8, 200) if args.int8 else []
    images = find_images(args.verify, 50) if args.verify else []
    predictor = build_predictor(cfg, args.checkpoint, 'cpu')
    divisor, pad_value = padding(predictor.model.data_preprocessor)
    steps = image_steps(cfg, None if 'size' in args.dynamic else args.shape)
    shape = args.shape or input_shape(steps, divisor)
    model = mmltm.deploy(predictor.model, tuple(shape))
    if args.fp16:
        model.half()
        model.data_preprocessor.float()
    wrapped = exportable(model, args.backbone)
    print(f'Tracing for {shape[0]} x {shape[1]} pixels ...')
    program = trace(wrapped, shape, args.dynamic, divisor if divisor > 1 else 32)
    names = wrapped.outputs or [f'feature{i}' for i in range(len(program.graph_signature.user_outputs))]
    meta = dict(
        kind='backbone' if args.backbone else 'classifier' if names == ('scores', ) else 'detector', config=args.config,
        classes=predictor.classes, steps=steps, shape=None if 'size' in args.dynamic else shape, divisor=divisor,
        pad_value=pad_value, mask_threshold=model.test_cfg.rcnn.mask_thr_binary if 'masks' in names else None)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if args.out.suffix == '.pt2':
        torch.export.save(program, args.out, extra_files={'mmltm': json.dumps(meta)})
    else:
        print('Translating to ONNX ...')
        write_onnx(program, names, args.out, meta)
    if calibration:
        quantise(args.out, inputs(calibration, meta, wrapped.inputs, 'Calibrating'))
    print(f'Wrote {args.out}, {args.out.stat().st_size / 2**20:.1f} MiB')
    if images and not args.backbone:
        verify(args.out, predictor, images, 0.9 if args.int8 or args.fp16 else 0.99)


if __name__ == '__main__':
    run(main)
