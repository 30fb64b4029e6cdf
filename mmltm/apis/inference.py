"""Predictions for image files, of detectors, classifiers and segmentors alike, by the inferencers of their projects.

Departures from theirs: a checkpoint of another model is an error; classes come from the checkpoint or else from the
config's test set, never from COCO by default; no picture is kept in memory.
"""

import copy
from typing import Any

import numpy as np
import torch
from mmdet.apis import DetInferencer
from mmdet.models.detectors import BaseDetector
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DATASETS
from mmpretrain.apis import ImageClassificationInferencer
from mmpretrain.models.classifiers import BaseClassifier
from mmpretrain.visualization import UniversalVisualizer
from torch import nn

from mmltm.errors import UserError, summary
from mmltm.models.builder import build_from
from mmltm.models.checkpoints import check_tested, dataset_meta, read_checkpoint


class _ReadyDetInferencer(DetInferencer):
    """mmdet's inferencer around a model that is loaded already."""

    def __init__(self, model: nn.Module, cfg: Config) -> None:
        self._ready = model
        super().__init__(model=cfg, show_progress=False)

    def _init_model(self, *args, **kwargs) -> nn.Module:
        return self._ready


class DetectionPredictor:
    """Boxes, and masks where the model has them."""

    def __init__(self, model: BaseDetector, cfg: Config, meta: dict) -> None:
        self.model, self.classes = model, meta.get('classes')
        model.dataset_meta = meta
        cfg = copy.deepcopy(cfg)
        cfg.visualizer = dict(cfg.get('visualizer') or dict(type='DetLocalVisualizer'), vis_backends=None)
        self._inferencer = _ReadyDetInferencer(model, cfg)

    def prepare(self, images: list[np.ndarray]) -> dict:
        """A batch for the model, of images each (H, W, 3), uint8, BGR, as the config's test prepares them."""
        return next(self._inferencer.preprocess(images, batch_size=len(images)))[1]

    def predict(self, images: list[np.ndarray]) -> list[Any]:
        """Data samples with the predictions for a batch of such images."""
        return self._inferencer.forward(self.prepare(images))

    def describe(self, sample: Any) -> dict:
        """The predictions in a data sample, as JSON can hold them."""
        return self._inferencer.pred2dict(sample)

    def draw(self, image: np.ndarray, sample: Any, score_thr: float) -> np.ndarray:
        """A picture, (H, W, 3), uint8, RGB, as ``image`` is, with what has at least that score."""
        visualizer = self._inferencer.visualizer
        visualizer.add_datasample('', image, sample, draw_gt=False, pred_score_thr=score_thr)
        return visualizer.get_image()


class ClassificationPredictor:
    """The scores of all classes, as :class:`DetectionPredictor` gives boxes."""

    def __init__(self, model: BaseClassifier, cfg: Config, meta: dict) -> None:
        self.model, self.classes = model, meta.get('classes')
        model._config = cfg  # where mmpretrain's inferencer looks for the test pipeline
        self._inferencer = ImageClassificationInferencer(model, pretrained=False, classes=self.classes)
        self._visualizer = UniversalVisualizer()

    def prepare(self, images: list[np.ndarray]) -> dict:
        return next(self._inferencer.preprocess(images, batch_size=len(images)))

    def predict(self, images: list[np.ndarray]) -> list[Any]:
        return self._inferencer.forward(self.prepare(images))

    def describe(self, sample: Any) -> dict:
        return self._inferencer.postprocess([sample], None)[0]

    def draw(self, image: np.ndarray, sample: Any, score_thr: float) -> np.ndarray:
        return self._visualizer.visualize_cls(image, sample, classes=self.classes, draw_gt=False)


def build_predictor(cfg: Config, path: str, device: str) -> Any:
    """The model of a config with the weights of a checkpoint on a device; images are prepared as for the config's test.

    It is an error if the device is not there, the model cannot be built or is neither detector, classifier nor
    segmentor, or the checkpoint is of another model.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f'cannot use --device {device}: {summary(error)}') from error
    model = build_from(cfg)
    kinds: list[tuple[type, Any]] = [(BaseDetector, DetectionPredictor), (BaseClassifier, ClassificationPredictor)]
    if cfg.default_scope == 'mmseg':
        from mmltm.apis.segmentation import BaseSegmentor, SegmentationPredictor
        kinds.append((BaseSegmentor, SegmentationPredictor))
    kind = next((kind for base, kind in kinds if isinstance(model, base)), None)
    if kind is None:
        raise UserError(f'config {cfg.filename} is of a {type(model).__name__}, but only detectors of mmdet, '
                        'classifiers of mmpretrain and segmentors of mmseg predict what can be drawn here')
    checkpoint = read_checkpoint(path)
    check_tested(model, path, checkpoint, MMLogger.get_current_instance())
    # Classes and palette: those of the training, or if the checkpoint does not know them those of the test set.
    meta = dataset_meta(checkpoint)
    if 'classes' not in meta:
        meta = DATASETS.build(dict(copy.deepcopy(cfg.test_dataloader.dataset), lazy_init=True)).metainfo
    return kind(model.to(device), cfg, meta)
