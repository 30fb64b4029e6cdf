#!/usr/bin/env python
"""Predicts with an exported model by ONNX Runtime, NumPy and OpenCV alone: one image, or a folder of images.

How images are prepared, and the names of the classes, are in the model's metadata: this file and the model are all that
a device needs. Results are those of tools/infer.py, in the same format.
"""

import argparse
import json
import math
import sys
from pathlib import Path

try:
    import cv2
    import numpy as np
    import onnxruntime
except ModuleNotFoundError as error:
    sys.exit(f"error: {error}; pip install onnxruntime numpy opencv-python, or to export: pip install 'mmltm[deploy]'")

EXAMPLES = """
examples:
  python tools/deployment/infer_onnx.py street.jpg mask_rcnn.onnx --out-dir work_dirs/street
  python tools/deployment/infer_onnx.py data/coco/val2017 ssdlite.onnx --out-dir work_dirs/val2017

Of a detector DIR/results.bbox.json and, if it has masks, DIR/results.segm.json are results in COCO's form, and
DIR/images.json says what their ids stand for, which count from 1. Of a classifier DIR/predictions.json has label, class
and all scores. Pictures go to DIR/pictures/, under the images' names and in their sub-folders. An image that cannot be
used is named, skipped and counted; if none can, the tool fails.
"""
SUFFIXES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif', '.tiff', '.webp')
CV2 = dict(nearest=cv2.INTER_NEAREST, bilinear=cv2.INTER_LINEAR, bicubic=cv2.INTER_CUBIC, area=cv2.INTER_AREA,
           lanczos=cv2.INTER_LANCZOS4)


class InputError(ValueError):
    """A file or folder that the user has named cannot be used; the message says why, in one line."""


class OnnxModel:
    """An exported classifier or detector with all that its metadata say."""

    def __init__(self, path: str, threads: int = 0) -> None:
        self.session = open_session(path, threads)
        self.meta = json.loads(self.session.get_modelmeta().custom_metadata_map.get('mmltm', '{}'))
        if self.meta.get('kind') not in ('classifier', 'detector'):
            raise InputError(f'model {path} is no classifier or detector that tools/deployment/export.py has written')
        self.classes = self.meta['classes']

    def predict(self, image: np.ndarray) -> dict:
        """Predictions for one image (H, W, 3), uint8, BGR; masks (H, W) of a detector are arrays of bool."""
        pixels, size, resized = prepare(image, self.meta)
        inputs = dict(image=pixels[None], size=np.array([size], np.float32))
        names = [output.name for output in self.session.get_outputs()]
        found = dict(zip(names, self.session.run(names, {x.name: inputs[x.name] for x in self.session.get_inputs()})))
        if self.meta['kind'] == 'classifier':
            scores = found['scores'][0]
            label = int(scores.argmax())
            result = dict(pred_scores=scores.tolist(), pred_label=label, pred_score=float(scores[label]))
            return dict(result, pred_class=self.classes[label]) if self.classes else result
        height, width = image.shape[:2]
        boxes = found['boxes'] / np.array([resized[1] / width, resized[0] / height] * 2, np.float32)
        result = dict(labels=found['labels'].tolist(), scores=found['scores'].tolist(), bboxes=boxes.tolist())
        if 'masks' in found:
            result['masks'] = [paste(mask, box, height, width, self.meta['mask_threshold'])
                               for mask, box in zip(found['masks'], boxes)]
        return result

    def draw(self, image: np.ndarray, result: dict, score_thr: float) -> np.ndarray:
        """A copy of the image with what has at least that score."""
        def write(label, score, place, colour):
            text = f'{self.classes[label] if self.classes else label} {score:.2f}'
            cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, 1, cv2.LINE_AA)

        picture = image.copy()
        if 'pred_label' in result:
            write(result['pred_label'], result['pred_score'], (4, 14), (0, 0, 255))
            return picture
        for i in np.flatnonzero(np.array(result['scores']) >= score_thr)[::-1]:
            label, (x1, y1, x2, y2) = result['labels'][i], np.round(result['bboxes'][i]).astype(int).tolist()
            colour = cv2.cvtColor(np.uint8([[[label * 67 % 180, 200, 255]]]), cv2.COLOR_HSV2BGR)[0, 0]
            if 'masks' in result:
                inside = result['masks'][i]
                picture[inside] = picture[inside] // 2 + colour // 2
            cv2.rectangle(picture, (x1, y1), (x2, y2), colour.tolist(), 1)
            write(label, result['scores'][i], (x1, max(y1 - 3, 9)), colour.tolist())
        return picture


def open_session(path: str, threads: int = 0) -> onnxruntime.InferenceSession:
    """A session of ONNX Runtime with an ONNX file, on the best of its devices."""
    if not Path(path).is_file():
        raise InputError(f'model {path} does not exist')
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=onnxruntime.get_available_providers())
    except Exception as error:  # ONNX Runtime's own have no common base
        raise InputError(f'model {path} cannot be loaded: {summary(error)}') from error


def summary(error: Exception) -> str:
    """An exception's message in one line."""
    return ' '.join(str(error).split())


def read_image(path: str) -> np.ndarray:
    """An image file as (H, W, 3), uint8, BGR. More than 8 bits are scaled as tools/infer.py does: to what 8, 10, 12, 14
    or 16 bits can hold, whichever the largest value needs, or of floats to 1 or a power of two."""
    try:
        image = cv2.imread(path, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
    except cv2.error as error:  # of too many pixels
        raise InputError(f'image {path} cannot be decoded: {summary(error)}') from error
    if image is None:
        raise InputError(f'{path} is no image, or a damaged one')
    height, width = image.shape[:2]
    if max(height, width) > 1000 * min(height, width):
        raise InputError(f'image {path} of {width} x {height} pixels is too thin')
    if image.dtype != np.uint8:
        floats = image.dtype.kind == 'f'
        image = np.nan_to_num(image.astype(np.float32), posinf=0, neginf=0)
        peak = float(image.max())
        if floats:
            white = 1. if peak <= 1.1 else 2. ** min(127, math.ceil(math.log2(peak / 1.1)))
        else:
            white = next((2. ** bits - 1 for bits in (8, 10, 12, 14, 16) if peak < 2**bits), peak)
        image = np.rint(np.clip(image, 0, white) * np.float32(255 / white)).astype(np.uint8)
    return np.repeat(image[..., None], 3, 2) if image.ndim == 2 else image


def prepare(image: np.ndarray, meta: dict) -> tuple[np.ndarray, tuple[int, ...], tuple[int, ...]]:
    """Pixels (3, H, W), float32, BGR, as the network takes them; height and width of the picture within; and those of
    the whole image as it was resized."""
    resized = image.shape[:2]
    for step in meta['steps']:
        if step['op'] == 'resize':
            image = resize(image, step)
            resized = image.shape[:2]
        elif step['op'] == 'crop':
            top, left = (max(0, int(round((side - length) / 2))) for side, length in zip(image.shape, step['size']))
            image = image[top:top + step['size'][0], left:left + step['size'][1]]
        else:
            bottom, right = (max(length - side, 0) for side, length in zip(image.shape, step['size']))
            image = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=step['value'])
    size = image.shape[:2]
    shape = meta['shape'] or [max(-(-side // meta['divisor']) * meta['divisor'], meta['least']) for side in size]
    if size[0] > shape[0] or size[1] > shape[1]:
        raise InputError(f'an image comes to {size[0]} x {size[1]} pixels, but the model takes {shape[0]} x {shape[1]}')
    pixels = np.empty((*shape, 3), np.float32)
    pixels[:] = meta['pad_value']
    pixels[:size[0], :size[1]] = image
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)), size, resized


def resized_shape(height: int, width: int, step: dict) -> tuple[int, int]:
    """Height and width that a step of resizing leads to."""
    if step['keep'] == 'none':
        return tuple(step['size'])
    if step['keep'] == 'edge':  # the shorter or longer one; the other one follows, rounded down
        length, by_width = step['length'], (width < height) == (step['edge'] == 'short')
        return (int(length * height / width), length) if by_width else (length, int(length * width / height))
    limits = step['size']
    if step['keep'] == 'sides':  # the larger limit is for the longer side
        limits = (max(limits), min(limits)) if height >= width else (min(limits), max(limits))
    factor = min(limits[0] / height, limits[1] / width)
    return int(height * factor + 0.5), int(width * factor + 0.5)


def resize(image: np.ndarray, step: dict) -> np.ndarray:
    height, width = resized_shape(*image.shape[:2], step)
    if min(height, width) < 1:
        raise InputError(f'an image of {image.shape[1]} x {image.shape[0]} pixels comes to {width} x {height}')
    if step['backend'] == 'cv2':
        return cv2.resize(image, (width, height), interpolation=CV2[step['interpolation']])
    # Pillow resizes along rows, then along columns, with bytes between. (From 13 on it takes some tall pictures the
    # other way round, which rounds some bytes otherwise.)
    for axis, side in (1, width), (0, height):
        sums = np.tensordot(pillow_weights(image.shape[axis], side, step['interpolation']), image, (1, axis))
        image = np.clip(np.floor(np.moveaxis(sums, 0, axis) / 2**22 + 0.5), 0, 255).astype(np.uint8)
    return image


def pillow_weights(source: int, target: int, interpolation: str) -> np.ndarray:
    """What Pillow resizes bytes by, (target, source): filters over source pixels as integers over 2^22."""
    scale = source / target
    stretch = max(scale, 1)
    reach = dict(bilinear=1, bicubic=2)[interpolation] * stretch
    centre, pixel = (np.arange(target)[:, None] + 0.5) * scale, np.arange(source)[None]
    x = np.abs((pixel - centre + 0.5) / stretch)
    weight = np.clip(1 - x, 0, None)
    if interpolation == 'bicubic':
        weight = np.where(x < 1, (1.5 * x - 2.5) * x * x + 1, np.where(x < 2, ((-0.5 * x + 2.5) * x - 4) * x + 2, 0))
    weight *= (pixel >= np.floor(centre - reach + 0.5)) & (pixel < np.floor(centre + reach + 0.5))
    weight /= weight.sum(1, keepdims=True)
    return np.trunc(weight * 2**22 + np.copysign(0.5, weight))


def paste(mask: np.ndarray, box: np.ndarray, height: int, width: int, threshold: float) -> np.ndarray:
    """The mask (h, w) of a box as one of the image, bool: bilinear between its cells, nothing around them."""
    def weights(first, last, start, end, cells):
        place = (np.arange(first, last, dtype=np.float32) + 0.5 - start) / (end - start) * cells - 0.5
        return np.clip(1 - np.abs(place[:, None] - np.arange(cells, dtype=np.float32)), 0, None)

    whole = np.zeros((height, width), bool)
    left, top = np.maximum(np.floor(box[:2]) - 1, 0).astype(int)
    right, bottom = np.minimum(np.ceil(box[2:]) + 1, (width, height)).astype(int)
    if right > left and bottom > top and (box[2:] > box[:2]).all():
        rows = weights(top, bottom, box[1], box[3], mask.shape[0])
        columns = weights(left, right, box[0], box[2], mask.shape[1])
        whole[top:bottom, left:right] = rows @ mask @ columns.T >= threshold
    return whole


def run_lengths(mask: np.ndarray) -> dict:
    """COCO's compressed run lengths of a mask: of columns, differences from the last but one, 5 bits a character."""
    flat = np.concatenate([[False], mask.ravel('F')])
    counts = np.diff(np.append(np.flatnonzero(flat[1:] != flat[:-1]), mask.size), prepend=0).tolist()
    text = ''
    for i, value in enumerate(counts):
        value, more = value - (counts[i - 2] if i > 2 else 0), True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr((bits | 32 * more) + 48)
    return dict(size=list(mask.shape), counts=text)


def find_images(folder: Path, out_dir: Path | None = None) -> list[Path]:
    """Images in a folder and below it but not in ``out_dir``, by name; or the one of that name."""
    paths = [folder] if folder.is_file() else sorted(
        path for path in folder.rglob('*') if path.suffix.lower() in SUFFIXES and path.is_file()
        and not (out_dir and out_dir.resolve() in path.resolve().parents))
    if not paths:
        raise InputError(f'{folder} is neither an image nor a folder that holds any ({", ".join(SUFFIXES)})')
    return paths


def start_files(model: OnnxModel) -> dict:
    """What is to be written, by name, for no image so far."""
    if model.meta['kind'] == 'classifier':
        return dict(predictions=dict(classes=model.classes, images={}))
    categories = [dict(id=label, name=name) for label, name in enumerate(model.classes or (), 1)]
    files = {'images': dict(categories=categories, images=[]), 'results.bbox': []}
    if 'masks' in [output.name for output in model.session.get_outputs()]:
        files['results.segm'] = []
    return files


def add(files: dict, number: int, name: str, shape: tuple[int, ...], result: dict) -> None:
    """Adds the predictions for an image of ``shape`` to ``files``, in COCO's form those of a detector."""
    if 'predictions' in files:
        files['predictions']['images'][name] = result
        return
    files['images']['images'].append(dict(id=number, file_name=name, height=shape[0], width=shape[1]))
    for i, (label, score, (x1, y1, x2, y2)) in enumerate(zip(result['labels'], result['scores'], result['bboxes'])):
        found = dict(image_id=number, category_id=label + 1, score=score)
        files['results.bbox'].append(dict(found, bbox=[x1, y1, x2 - x1, y2 - y1]))
        if 'masks' in result:
            files['results.segm'].append(dict(found, segmentation=run_lengths(result['masks'][i])))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('image', help='image, or folder of images, in sub-folders too')
    parser.add_argument('model', metavar='MODEL.onnx', help='what tools/deployment/export.py has written')
    parser.add_argument('--out-dir', required=True, metavar='DIR', help='where results go')
    parser.add_argument('--score-thr', type=float, default=0.3, metavar='SCORE',
                        help='draw instances with at least this score; default: %(default)s')
    parser.add_argument('--draw', action='store_true', help='draw pictures; a single image is drawn in any case')
    parser.add_argument('--threads', type=int, default=0, metavar='N', help='default: one a core')
    args = parser.parse_args()
    folder, out_dir = Path(args.image).expanduser(), Path(args.out_dir)
    paths, done, skipped = find_images(folder, out_dir), 0, {}
    model = OnnxModel(args.model, args.threads)
    files = start_files(model)
    out_dir.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(paths, 1):
        print(f'\r{number} of {len(paths)} images', end='' if number < len(paths) else '\n', file=sys.stderr)
        name = path.name if path == folder else path.relative_to(folder).as_posix()
        try:
            image = read_image(str(path))
            result = model.predict(image)
        except Exception as error:  # ends with this image
            skipped[name] = summary(error)
            print(f'\nskipped {path}: {skipped[name]}', file=sys.stderr)
            continue
        if args.draw or len(paths) == 1:
            picture = out_dir / 'pictures' / (f'{name}.png' if path.suffix.lower() == '.pgm' else name)
            picture.parent.mkdir(parents=True, exist_ok=True)
            if not cv2.imwrite(str(picture), model.draw(image, result, args.score_thr)):
                raise OSError(f'cannot write {picture}')
        add(files, number, name, image.shape, result)
        done += 1
    if not done:
        raise InputError(f'none of the {len(paths)} images in {folder} can be used; the first: '
                       f'{next(iter(skipped.values()))}')
    next(iter(files.values()))['skipped'] = list(skipped)
    for name, content in files.items():
        (out_dir / f'{name}.json').write_text(json.dumps(content))
    print(f'{done} images done, {len(skipped)} skipped; see {args.out_dir}')


if __name__ == '__main__':
    try:
        main()
    except (InputError, OSError) as error:
        sys.exit(f'error: {error}')
