"""How images are prepared, as the metadata of an exported model say it to devices without OpenMMLab."""

import copy
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config
from mmengine.registry import TRANSFORMS

from mmltm.errors import UserError

# Transforms that leave pixels as they are.
_SILENT = ('LoadImageFromFile', 'LoadAnnotations', 'PackInputs', 'PackDetInputs')
_INTERPOLATIONS = dict(cv2=('nearest', 'bilinear', 'bicubic', 'area', 'lanczos'), pillow=('bilinear', 'bicubic'))


def image_steps(cfg: Config, shape: tuple[int, int] | None) -> list[dict[str, Any]]:
    """The test pipeline as steps from an image file's pixels to those that a network takes.

    Pictures that keep their proportions are to fit within ``shape`` (height, width), if given; whatever leads to one
    size is to lead to that one.

    Raises:
        UserError: A transform is none of resizing, cropping at the centre and padding at the lower right.
    """
    steps = []
    for transform in copy.deepcopy(cfg.test_dataloader.dataset.pipeline):
        name = transform['type'].rpartition('.')[2]
        if name in _SILENT:
            continue
        step = TRANSFORMS.build(transform)
        if name == 'Resize' and step.scale and not step.keep_ratio:
            steps.append(_resizing(step, 'none', size=list(shape or step.scale[::-1])))
        elif name == 'Resize' and step.scale:
            steps.append(_resizing(step, 'both' if shape else 'sides', size=list(shape or step.scale[::-1])))
        elif name == 'ResizeEdge':
            steps.append(_resizing(step, 'edge', edge=step.edge, length=step.scale))
        elif name == 'CenterCrop' and not step.auto_pad:
            size = list(shape or step.crop_size[::-1])
            if steps and steps[-1].get('keep') == 'edge':  # cropped from as much as before, in proportion
                steps[-1]['length'] = round(steps[-1]['length'] * max(size) / max(step.crop_size))
            steps.append(dict(op='crop', size=size))
        elif name == 'Pad' and step.size and step.padding_mode == 'constant':
            value = step.pad_val.get('img', 0)
            steps.append(dict(op='pad', size=list(shape or step.size[::-1]),
                              value=[value] * 3 if isinstance(value, (int, float)) else list(value)))
        else:
            raise UserError(f'the test pipeline has {step}, which an exported model cannot ask for; it may load, '
                            'resize, crop at the centre and pad to a size')
    return steps


def _resizing(step: Any, keep: str, **settings) -> dict[str, Any]:
    if step.interpolation not in _INTERPOLATIONS.get(step.backend, ()):
        raise UserError(f'the test pipeline resizes by {step.backend}, {step.interpolation}, which an exported model '
                        f'cannot ask for; possible are {_INTERPOLATIONS}')
    return dict(op='resize', keep=keep, backend=step.backend, interpolation=step.interpolation, **settings)


def input_shape(steps: list[dict[str, Any]], divisor: int, shape: Sequence[int] | None = None) -> tuple[int, int]:
    """Height and width, asked for or else what the steps lead to, padded to multiples of the divisor."""
    sizes = [shape] if shape else [step['size'] for step in steps if 'size' in step]
    if not sizes:
        raise UserError('the test pipeline leads to no size; give one by --shape H W')
    height, width = (-(-side // divisor) * divisor for side in sizes[-1])
    return height, width


def padding(preprocessor: Any) -> tuple[int, list[float]]:
    """The divisor of padded sizes, and the pixel (BGR) that is the padding once it is normalised."""
    value = [float(preprocessor.pad_value)] * 3
    if preprocessor._enable_normalize:
        value = (preprocessor.mean.flatten() + preprocessor.pad_value * preprocessor.std.flatten()).tolist()
        if getattr(preprocessor, '_channel_conversion', False) or getattr(preprocessor, 'to_rgb', False):
            value = value[::-1]
    return getattr(preprocessor, 'pad_size_divisor', 1), value
