"""Non-maximum suppression: hard (by torchvision), soft, and matching.

Boxes (N, 4) are x1 y1 x2 y2, their widths and heights x2 - x1 + offset with offset 0 or 1. Departures from mmcv: boxes
of equal score are taken in the order in which they come (mmcv: unspecified), and two empty boxes, whose IoU is 0 / 0,
do not overlap (in mmcv's Gaussian soft-NMS the score becomes NaN).
"""

import torch
from torch import Tensor
from torchvision.ops import box_iou
from torchvision.ops import nms as hard_nms

from .common import promote


def _shift(boxes: Tensor, offset: int) -> Tensor:
    """Boxes whose width is x2 - x1 + offset, in a convention where it is x2 - x1."""
    return boxes + boxes.new_tensor([0, 0, offset, offset])


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Indices, by falling score, of the boxes that have no IoU above the threshold with a better one."""
    boxes, scores = promote(boxes, scores)
    # In mmcv the threshold has the type of the boxes, so an IoU of exactly 0.3 does not exceed 0.3;
    # torchvision compares with the double 0.3, which the float 0.3 exceeds.
    iou_threshold = boxes.new_tensor(iou_threshold).item()
    return hard_nms(_shift(boxes, offset), scores, iou_threshold)


def softnms(boxes: Tensor, scores: Tensor, dets: Tensor, iou_threshold: float, sigma: float, min_score: float,
            method: int, offset: int) -> Tensor:
    """Soft-NMS (Bodla et al., arXiv 1704.04503): overlapping boxes lose score instead of being dropped.

    Method 0 drops boxes from the threshold on, 1 multiplies scores by 1 - IoU then, 2 always by exp(-IoU^2 / sigma).
    Boxes are dropped once their score is below ``min_score``; the best one never is. The first K rows of ``dets``
    (N, 5) receive the kept boxes with their new scores; returned are their indices (K,), by falling new score.
    """
    decay = (
        lambda iou: iou < iou_threshold,
        lambda iou: torch.where(iou < iou_threshold, 1, 1 - iou),
        lambda iou: torch.exp(-iou**2 / sigma),
    )[method]
    boxes, scores = promote(boxes, scores)
    shifted = _shift(boxes, offset)
    kept: list[Tensor] = []
    left = torch.arange(len(boxes), device=boxes.device)
    while left.numel():
        best = scores.argmax()
        index = left[best]
        dets[len(kept)] = torch.cat([boxes[index], scores[best, None]])
        kept.append(index)
        scores = scores * decay(box_iou(shifted[index, None], shifted[left])[0].nan_to_num(0))
        stay = scores >= min_score
        stay[best] = False
        left, scores = left[stay], scores[stay]
    return left.new_tensor(kept)


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Indices, by falling score, of each group of boxes that NMS would reduce to one.

    ``dets`` (N, 5) are boxes and scores; from the threshold on a box joins the group of a better one.
    """
    boxes, scores = dets[:, :4], dets[:, 4]
    left = scores.argsort(descending=True, stable=True)
    groups = []
    while left.numel():
        joins = box_iou(boxes[left[:1]], boxes[left])[0] >= iou_threshold
        joins[0] = True
        groups.append(left[joins].tolist())
        left = left[~joins]
    return groups
