"""Class distributions of images, and where classes are in them, by annotations of mmpretrain, mmdet and mmseg."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmltm.errors import UserError

#: What stands in mmseg's label maps for no class: padding, and what is not to be learnt.
IGNORED = 255


def class_distribution(data_samples: Sequence | None, num_classes: int) -> Tensor:
    """The share of each class in each image, (B, C), float32, on the CPU; rows sum to one, without any class to zero.

    Of mmpretrain's samples: ``gt_score`` where there is one (Mixup and CutMix write it), else ``gt_label``, one or
    several. Of mmdet's: the categories of ``gt_instances`` by area, of masks if there are any, else of boxes; crowds
    are not among these. Of mmseg's: the pixels of ``gt_sem_seg`` but those of 255. All samples are of one kind. It is
    an error if there is no annotation of these kinds, or one that does not fit the number of classes.
    """
    if not data_samples:
        raise UserError('a batch without data samples: the classes of the images are needed')
    first = data_samples[0]
    if 'gt_score' in first:
        scores = torch.stack([sample.gt_score for sample in data_samples]).float().cpu()
        if scores.shape[1] != num_classes:
            raise UserError(f'gt_score over {scores.shape[1]} classes, but statistics are kept of {num_classes}')
        return F.normalize(scores, p=1.0)
    if 'gt_label' in first:
        labels = [sample.gt_label for sample in data_samples]
        return _from_labels(labels, [torch.ones(len(x)) for x in labels], num_classes)
    if 'gt_instances' in first:
        instances = [sample.gt_instances for sample in data_samples]
        areas = [instance_areas(x) for x in instances]
        return _from_labels([x.labels for x in instances], areas, num_classes)
    if 'gt_sem_seg' in first:
        pixels = [sample.gt_sem_seg.data.flatten() for sample in data_samples]
        found = [x[x != IGNORED].unique(return_counts=True) for x in pixels]
        return _from_labels([values for values, _ in found], [counts for _, counts in found], num_classes)
    raise UserError(f'no gt_score, gt_label, gt_instances or gt_sem_seg in a {type(first).__name__}: the classes of '
                    'the images are needed')


def _from_labels(labels: list[Tensor], weights: list[Tensor], num_classes: int) -> Tensor:
    totals, shares = torch.zeros(len(labels), num_classes), torch.cat(weights).float().cpu()
    rows, columns = _samples_of(labels), torch.cat(labels).cpu()
    wrong = columns[(columns < 0) | (columns >= num_classes)]
    if len(wrong):
        raise UserError(f'class index {int(wrong[0])} is outside the {num_classes} classes 0 to '
                        f'{num_classes - 1} that statistics are kept of')
    return F.normalize(totals.index_put_((rows, columns), shares, accumulate=True), p=1.0)


def _samples_of(labels: list[Tensor]) -> Tensor:
    """The index of the sample that each of all their labels belongs to."""
    return torch.arange(len(labels)).repeat_interleave(torch.tensor([len(x) for x in labels]))


def object_boxes(data_samples: Sequence) -> tuple[Tensor, Tensor, Tensor] | None:
    """Where the objects of mmdet's samples are; None for samples without boxes (mmpretrain's).

    (m, 4) corners x0, y0, x1, y1 as fractions of the network's input, padding included; (m,) labels; (m,) indices of
    the images; all on the CPU.
    """
    if not data_samples or 'gt_instances' not in data_samples[0]:
        return None
    instances = [sample.gt_instances for sample in data_samples]
    corners = []
    for sample, objects in zip(data_samples, instances):
        height, width = sample.metainfo.get('batch_input_shape') or sample.img_shape
        boxes = getattr(objects.bboxes, 'tensor', objects.bboxes).float().cpu()
        corners.append(boxes / boxes.new_tensor([width, height, width, height]))
    labels = [objects.labels for objects in instances]
    return torch.cat(corners), torch.cat(labels).cpu(), _samples_of(labels)


def label_maps(data_samples: Sequence) -> Tensor | None:
    """The class of each pixel of mmseg's samples, (B, H, W), -1 where it is ignored; None for samples without maps."""
    if not data_samples or 'gt_sem_seg' not in data_samples[0]:
        return None
    maps = torch.stack([sample.gt_sem_seg.data.squeeze(0) for sample in data_samples]).long()
    return maps.masked_fill(maps == IGNORED, -1)


def instance_areas(instances) -> Tensor:
    """Areas of mmdet's instances in pixels, (k,), on the CPU."""
    if 'masks' not in instances:
        boxes = instances.bboxes
        # A plain tensor holds corners, as in mmdet's own loaders.
        areas = boxes.areas if hasattr(boxes, 'areas') else (boxes[:, 2:] - boxes[:, :2]).prod(1)
        return areas.cpu()
    masks = instances.masks
    if isinstance(masks.masks, np.ndarray):
        # Eight times as fast as the sum that ``areas`` of a bitmap computes.
        return torch.tensor([np.count_nonzero(mask) for mask in masks.masks])
    return torch.as_tensor(masks.areas)
