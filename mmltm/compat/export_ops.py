"""NMS and RoIAlign as operators whose outputs have known shapes, so that whole detectors can be traced and exported.

mmcv's own end a trace: how many boxes NMS leaves, or a pyramid level gets, is known only when they run. To load an
exported program of a detector (``.pt2``) import this module first. In ONNX they are NonMaxSuppression and RoiAlign.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import nms, roi_align


@torch.library.custom_op('mmltm::suppress', mutates_args=())
def suppress(boxes: Tensor, scores: Tensor, iou_threshold: float, most: int) -> Tensor:
    """Which boxes NMS leaves, (B, N) bool: of each image the ``most`` best ones at the utmost.

    Boxes (B, N, 4) are x1 y1 x2 y2; those whose score, (B, N), is negative take no part.
    """
    kept = torch.zeros_like(scores, dtype=torch.bool)
    for image in range(len(boxes)):
        index = (scores[image] >= 0).nonzero()[:, 0]
        kept[image, index[nms(boxes[image, index], scores[image, index], iou_threshold)[:most]]] = True
    return kept


@torch.library.custom_op('mmltm::pool_rois', mutates_args=())
def pool_rois(features: list[Tensor], rois: Tensor, levels: Tensor, scales: list[float], size: list[int],
              sampling_ratio: int, aligned: bool) -> Tensor:
    """RoIAlign, each box in its own level of a pyramid: (K, C, *size).

    ``features`` are (B, C, H, W), ``scales`` times as large as the image; ``rois`` (K, 5) image index and x1 y1 x2 y2,
    ``levels`` (K,) int64.
    """
    pooled = features[0].new_zeros(len(rois), features[0].size(1), *size)
    for level, (feature, scale) in enumerate(zip(features, scales)):
        index = (levels == level).nonzero()[:, 0]
        pooled[index] = roi_align(feature, rois[index], size, scale, sampling_ratio, aligned)
    return pooled


@suppress.register_fake
def _(boxes, scores, iou_threshold, most):
    return torch.empty_like(scores, dtype=torch.bool)


@pool_rois.register_fake
def _(features, rois, levels, scales, size, sampling_ratio, aligned):
    return features[0].new_empty(rois.size(0), features[0].size(1), *size)


def onnx_translations() -> dict[Callable, Callable]:
    """What ``torch.onnx.export`` needs as its ``custom_translation_table``."""
    import onnxscript

    op: Any = onnxscript.opset18

    def suppress_onnx(boxes, scores, iou_threshold, most):
        kept = op.NonMaxSuppression(
            boxes, op.Unsqueeze(scores, [1]), op.Constant(value_ints=[most]),
            op.Constant(value_floats=[iou_threshold]), op.Constant(value_floats=[-0.5]))  # (K, 3): image, class, box
        where = op.Gather(kept, op.Constant(value_ints=[0, 2]), axis=1)
        ones = op.Expand(op.Constant(value_ints=[1]), op.Slice(op.Shape(where), [0], [1]))
        zeros = op.Expand(op.Constant(value_ints=[0]), op.Shape(scores))
        return op.Cast(op.ScatterND(zeros, where, ones), to=9)

    def pool_rois_onnx(features, rois, levels, scales, size, sampling_ratio, aligned):
        rows = op.Shape(levels)
        channels = op.Slice(op.Shape(features[0]), [1], [2])
        pooled = op.Expand(op.Constant(value_floats=[0.]),
                           op.Concat(rows, channels, op.Constant(value_ints=list(size)), axis=0))
        for level, (feature, scale) in enumerate(zip(features, scales)):
            index = op.Transpose(op.NonZero(op.Equal(levels, op.Constant(value_ints=[level]))))  # (K', 1)
            boxes = op.GatherND(rois, index)
            image = op.Cast(op.Squeeze(op.Slice(boxes, [0], [1], [1]), [1]), to=7)
            part = op.RoiAlign(
                feature, op.Slice(boxes, [1], [5], [1]), image, mode='avg', output_height=size[0], output_width=size[1],
                sampling_ratio=max(sampling_ratio, 0), spatial_scale=scale,
                coordinate_transformation_mode='half_pixel' if aligned else 'output_half_pixel')
            pooled = op.ScatterND(pooled, index, part)
        return pooled

    return {torch.ops.mmltm.suppress.default: suppress_onnx, torch.ops.mmltm.pool_rois.default: pool_rois_onnx}
