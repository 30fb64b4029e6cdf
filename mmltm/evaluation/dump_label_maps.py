"""Predictions of segmentors in a file: label maps in COCO's run lengths."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import DumpResults
from torch import Tensor

from mmltm.registry import METRICS


def encode_label_map(labels: Tensor) -> dict[str, list]:
    """The classes in a label map, (H, W), and where each is, as JSON can hold it: ``labels`` and ``masks``, RLE."""
    from pycocotools import mask as coco  # which mmdet brings
    values = labels.unique().tolist()
    masks = [coco.encode(np.asfortranarray(labels.cpu() == value)) for value in values]
    return dict(labels=values, masks=[dict(mask, counts=mask['counts'].decode()) for mask in masks])


@METRICS.register_module()
class DumpLabelMaps(DumpResults):
    """mmengine's ``DumpResults`` for mmseg, whose samples hold the scores of all classes for every pixel.

    For each image its path and :func:`encode_label_map`.
    """

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            self.results.append(dict(
                img_path=sample['img_path'], **encode_label_map(sample['pred_sem_seg']['data'].squeeze(0))))
