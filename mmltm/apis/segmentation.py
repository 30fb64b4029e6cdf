"""Predictions of segmentors for image files, in a file of their own, since mmseg need not be installed."""

import copy
from typing import Any

import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.visualization import get_palette
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmseg.models import BaseSegmentor
from mmseg.visualization import SegLocalVisualizer

from mmltm.apis.data_root import leaf_datasets
from mmltm.evaluation.dump_label_maps import encode_label_map

#: Opacity of drawn classes.
_ALPHA = 0.5


class SegmentationPredictor:
    """Label maps, as :class:`~mmltm.apis.inference.DetectionPredictor` gives boxes."""

    def __init__(self, model: BaseSegmentor, cfg: Config, meta: dict) -> None:
        self.model, self.classes = model, meta.get('classes')
        steps = copy.deepcopy(next(dataset for _, dataset in leaf_datasets(cfg, ['test'])).pipeline)
        steps[0].type = 'LoadImageFromNDArray'
        self._pipeline = Compose([step for step in steps if step.type != 'LoadAnnotations'])
        self._visualizer = SegLocalVisualizer(alpha=_ALPHA)
        self._visualizer.dataset_meta = dict(
            classes=self.classes, palette=meta.get('palette') or get_palette('random', len(self.classes or ())))

    def prepare(self, images: list[np.ndarray]) -> dict:
        return pseudo_collate([self._pipeline(dict(img=image)) for image in images])

    def predict(self, images: list[np.ndarray]) -> list[Any]:
        with torch.no_grad():
            return self.model.test_step(self.prepare(images))

    def describe(self, sample: Any) -> dict:
        return encode_label_map(sample.pred_sem_seg.data.squeeze(0))

    def draw(self, image: np.ndarray, sample: Any, score_thr: float) -> np.ndarray:
        self._visualizer.add_datasample('', image, sample, draw_gt=False)
        return self._visualizer.get_image()
