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
from tempfile import TemporaryFile

import numpy as np
import torch
from rich.progress import track

from infer_onnx import OnnxModel, InputError, find_images, open_session, prepare, read_image
import mmltm
from mmltm.apis.cli import add_cfg_options, make_parser
from mmltm.apis.config import load_config
from mmltm.apis.export import least_side, quantise, trace, write_onnx
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
    parser.add_argument('--divisor', type=int, metavar='N', help='with --dynamic size: pad images to multiples of so '
                        "many pixels; default: as the model does, or 32. Where LTM merges windows of 7 tokens, 224")
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
    if min(args.shape or [1]) < 1 or args.divisor is not None and args.divisor < 1:
        parser.error('--shape and --divisor take positive numbers')
    return args


def some_images(name, most):
    """At most so many images of a folder and its sub-folders, evenly spread; or the one of that name."""
    paths = find_images(Path(name)) if name else []
    return [paths[i] for i in np.linspace(0, len(paths) - 1, min(most, len(paths))).astype(int)]


def inputs(paths, meta, names, what):
    """The model's inputs for images, as ONNX Runtime takes them."""
    for path in track(paths, description=what):
        pixels, size, _ = prepare(read_image(str(path)), meta)
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
    parts = [agreement(model.predict(image), predictor.predict([image])[0])
             for image in map(read_image, track([str(name) for name in paths], description='Verifying'))]
    again, scores, boxes = (np.concatenate(part) for part in zip(*parts))
    kind = 'top-1' if model.meta['kind'] == 'classifier' else 'boxes and masks of the same class within a pixel'
    print(f'{len(paths)} images: {again.sum():.0f} of {len(again)} {kind} as in PyTorch, scores within '
          f'{scores.max(initial=0):.1e}, boxes within {boxes.max(initial=0):.1e} px')
    if len(again) and again.mean() < share:
        raise UserError(f'{path} predicts otherwise than PyTorch: {again.mean():.1%} agree, {share:.0%} should')


def verify_maps(path, model, images, share):
    """As :func:`verify` for the maps of a model's backbone: the norm of the difference as a share of theirs."""
    session, wrapped, apart = open_session(str(path)), exportable(model, backbone=True), []
    for image in images:
        with torch.no_grad():
            wanted = wrapped(**{name: torch.from_numpy(value) for name, value in image.items()})
        apart.append([np.linalg.norm(found - maps.numpy()) / maps.norm().item()
                      for found, maps in zip(session.run(None, image), wanted)])
    print(f'{len(apart)} images: maps within {np.max(apart):.1e} of their norm')
    if np.max(apart) > 1 - share:
        raise UserError(f'{path} gives other maps than PyTorch: {np.max(apart):.1%} of their norm apart')


def main():
    args = get_args()
    cfg = load_config(args.config, args.cfg_options, args.data_root, needs=('model', 'test_dataloader'))
    check_file('checkpoint', args.checkpoint)
    calibration, images = some_images(args.int8, 200), some_images(args.verify, 50)
    try:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=args.out.parent).close()
    except OSError as error:
        raise UserError(f'cannot write {args.out}: {error.strerror}') from error
    predictor = build_predictor(cfg, args.checkpoint, 'cpu')
    divisor, pad_value = padding(predictor.model.data_preprocessor)
    steps = image_steps(cfg, None if 'size' in args.dynamic else args.shape)
    if 'size' in args.dynamic:
        divisor = args.divisor or max(divisor, 32)
    shape = input_shape(steps, divisor, args.shape)
    model = mmltm.deploy(predictor.model)
    if args.fp16:
        model.half()
        model.data_preprocessor.float()
    wrapped = exportable(model, args.backbone)
    print(f'Tracing for {shape[0]} x {shape[1]} pixels ...')
    program = trace(wrapped, shape, args.dynamic, divisor)
    names = wrapped.outputs or [f'feature{i}' for i in range(len(program.graph_signature.user_outputs))]
    meta = dict(
        kind='backbone' if args.backbone else 'classifier' if names == ('scores', ) else 'detector', config=args.config,
        classes=predictor.classes, steps=steps, shape=None if 'size' in args.dynamic else shape, divisor=divisor,
        least=least_side(divisor), pad_value=pad_value,
        mask_threshold=model.test_cfg.rcnn.mask_thr_binary if 'masks' in names else None)
    if args.out.suffix == '.pt2':
        torch.export.save(program, args.out, extra_files={'mmltm': json.dumps(meta)})
    else:
        print('Translating to ONNX ...')
        write_onnx(program, names, args.out, meta)
    if calibration:
        quantise(args.out, inputs(calibration, meta, wrapped.inputs, 'Calibrating'))
    print(f'Wrote {args.out}, {args.out.stat().st_size / 2**20:.1f} MiB')
    share = 0.9 if args.int8 or args.fp16 else 0.99
    if images and args.backbone:
        verify_maps(args.out, predictor.model, inputs(images, meta, wrapped.inputs, 'Verifying'), share)
    elif images:
        verify(args.out, predictor, images, share)


if __name__ == '__main__':
    run(main, InputError)
