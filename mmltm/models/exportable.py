"""Models as functions from pixels to predictions in tensors alone, which trace.

mmdet's own post-processing branches on how many boxes are left; here every image keeps the same number of candidates,
of which those below the threshold carry a negative score. What comes out is the same.
"""

from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models.dense_heads import RPNHead
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.detectors import BaseDetector, SingleStageDetector, TwoStageDetector
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.structures.bbox import get_box_tensor
from mmpretrain.models.classifiers import ImageClassifier
from mmpretrain.models.heads import ClsHead
from torch import Tensor, nn

from mmltm.compat.export_ops import pool_rois, suppress
from mmltm.errors import UserError
from mmltm.merging.sequences import take


class Exportable(nn.Module):
    """Feature maps of a model's backbone; the base of what predicts.

    Takes pixels (B, 3, H, W), float32, 0 to 255, BGR, as OpenCV reads them; normalisation is part of it.

    Args:
        model (nn.Module): A classifier of mmpretrain or detector of mmdet, whose parameters are float32 or float16.
    """

    model: Any
    inputs: tuple[str, ...] = ('image', )
    outputs: tuple[str, ...] = ()  # as many as there are maps

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.dtype = next(model.parameters()).dtype

    def normalise(self, image: Tensor) -> Tensor:
        """Pixels as the model's data preprocessor would hand them on."""
        preprocessor = self.model.data_preprocessor
        if getattr(preprocessor, '_channel_conversion', False) or getattr(preprocessor, 'to_rgb', False):
            image = image.flip(1)
        if preprocessor._enable_normalize:
            image = (image - preprocessor.mean) / preprocessor.std
        return image.to(self.dtype)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        maps = self.model.backbone(self.normalise(image))
        return tuple(feature.float() for feature in (maps if isinstance(maps, (list, tuple)) else [maps]))


class ExportableClassifier(Exportable):
    """Scores (B, classes) of a classifier that decides for one class."""

    outputs = ('scores', )

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return self.model.head(self.model.extract_feat(self.normalise(image))).float().softmax(1),


class ExportableDetector(Exportable):
    """Boxes of all images, one image after the other, by falling score: image index, boxes, scores, labels, masks.

    ``size`` (B, 2) is the height and width of each picture within its padding, float32. Boxes (K, 4) are in pixels of
    the input; masks (K, h, w), of a model that has them, probabilities over the box.
    """

    inputs = ('image', 'size')

    def __init__(self, model: BaseDetector) -> None:
        super().__init__(model)
        self.outputs = ('image_index', 'boxes', 'scores', 'labels') + ('masks', ) * model.with_mask

    def forward(self, image: Tensor, size: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        maps = self.model.extract_feat(self.normalise(image))
        if isinstance(self.model, SingleStageDetector):
            head, cfg = self.model.bbox_head, self.model.test_cfg
            boxes, scores, labels = self.candidates(head, maps, size, cfg, float(cfg.get('score_thr', 0)))
            boxes, scores, labels = best(boxes, scores, labels, cfg)
        else:
            boxes, scores, labels = self.second_stage(maps, size)
        # From here on as many rows as there are detections.
        index = (scores >= 0).nonzero()
        image_index, rank = index[:, 0], index[:, 1]
        boxes, scores, labels = (x[image_index, rank] for x in (boxes, scores, labels))
        if not self.model.with_mask:
            return image_index, boxes, scores, labels
        roi_head = self.model.roi_head
        pooled = self.pool(roi_head.mask_roi_extractor, maps, image_index, boxes)
        # One row more than there are detections: group normalisation of no row at all is an error in ONNX Runtime.
        pooled = torch.cat([pooled, pooled.new_zeros(1, *pooled.shape[1:])])
        masks = roi_head.mask_head(pooled)[:-1].float().sigmoid()
        chosen = torch.zeros_like(labels) if roi_head.mask_head.class_agnostic else labels
        masks = masks.gather(1, chosen[:, None, None, None].expand(-1, 1, *masks.shape[2:]))[:, 0]
        return image_index, boxes, scores, labels, masks

    def candidates(self, head: Any, maps: tuple[Tensor, ...], size: Tensor, cfg: Any,
                   threshold: float) -> tuple[Tensor, Tensor, Tensor]:
        """The ``nms_pre`` best boxes of each level, (B, N, 4), scores and labels, (B, N); an RPN labels levels."""
        scores_by_level, deltas_by_level, *factors_by_level = [
            [level.float() for level in output] for output in head(maps) if output is not None]
        priors_by_level = head.prior_generator.grid_priors(
            [level.shape[-2:] for level in scores_by_level], dtype=torch.float32, device=size.device)
        found = []
        for level, (logits, deltas, priors) in enumerate(zip(scores_by_level, deltas_by_level, priors_by_level)):
            logits, deltas = rows(logits, head.cls_out_channels), rows(deltas, head.bbox_coder.encode_size)
            scores = logits.sigmoid() if head.use_sigmoid_cls else logits.softmax(-1)[..., :-1]
            classes = scores.size(-1)
            scores = torch.where(scores > threshold, scores, -1).flatten(1)
            scores, index = top(scores, cfg.get('nms_pre', -1))
            labels, index = index % classes, index // classes
            if isinstance(head, RPNHead):
                labels = torch.full_like(labels, level)
            deltas = take(deltas, index)
            boxes = get_box_tensor(head.bbox_coder.decode(priors[index.flatten()], deltas.flatten(0, 1)))
            boxes = boxes.view(deltas.shape)
            if factors_by_level:
                factor = rows(factors_by_level[0][level], 1)[..., 0].gather(1, index).sigmoid()
                scores = torch.where(scores >= 0, scores * factor, scores)
            found.append((boxes, scores, labels))
        boxes, scores, labels = (torch.cat(parts, 1) for parts in zip(*found))
        boxes = clip(boxes, size, head.bbox_coder)
        if cfg.get('min_bbox_size', -1) >= 0:
            big = (boxes[..., 2:] - boxes[..., :2] > cfg.min_bbox_size).all(-1)
            scores = torch.where(big, scores, -1)
        return boxes, scores, labels

    def second_stage(self, maps: tuple[Tensor, ...], size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The boxes that NMS leaves, (B, max_per_img, 4), with scores and labels, of a Faster or Mask R-CNN."""
        rpn_cfg, cfg = self.model.test_cfg.rpn, self.model.test_cfg.rcnn
        proposals, proposal_scores, _ = best(*self.candidates(self.model.rpn_head, maps, size, rpn_cfg, -1.), rpn_cfg)
        head = self.model.roi_head.bbox_head
        batch, number = proposal_scores.shape
        image_index = torch.arange(batch, device=size.device)[:, None].expand(-1, number).flatten()
        proposals = proposals.flatten(0, 1)
        logits, deltas = head(self.pool(self.model.roi_head.bbox_roi_extractor, maps, image_index, proposals))
        scores = logits.float().softmax(-1)[:, :-1]
        classes = scores.size(-1)
        scores = torch.where((scores > cfg.score_thr) & (proposal_scores.flatten()[:, None] >= 0), scores, -1)
        own = 1 if head.reg_class_agnostic else classes
        boxes = get_box_tensor(head.bbox_coder.decode(
            proposals.repeat_interleave(own, dim=0), deltas.float().reshape(-1, 4)))
        boxes = boxes.view(-1, own, 4).expand(-1, classes, -1).reshape(batch, -1, 4)
        labels = torch.arange(classes, device=size.device).expand(batch, number, -1).flatten(1)
        return best(clip(boxes, size, head.bbox_coder), scores.view(batch, -1), labels, cfg)

    def pool(self, extractor: Any, maps: tuple[Tensor, ...], image_index: Tensor, boxes: Tensor) -> Tensor:
        """Features (K, C, h, w) of boxes (K, 4), each from the level that its size asks for."""
        rois = torch.cat([image_index[:, None].to(boxes), boxes], 1)
        layer, levels = extractor.roi_layers[0], len(extractor.featmap_strides)
        return pool_rois([level.float() for level in maps[:levels]], rois, extractor.map_roi_levels(rois, levels),
                         [layer.spatial_scale for layer in extractor.roi_layers], list(layer.output_size),
                         layer.sampling_ratio, layer.aligned).to(self.dtype)


def rows(level: Tensor, channels: int) -> Tensor:
    """(B, A * channels, H, W) as (B, H * W * A, channels), the order of the priors."""
    return level.permute(0, 2, 3, 1).reshape(level.size(0), -1, channels)


def top(scores: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """The ``number`` highest scores of each row and where they are, by falling score; all if that is not positive.

    Where a traced size decides how many there are, rows are padded with scores of -1 at index 0.
    """
    if number <= 0:
        return scores.sort(1, descending=True)
    if isinstance(scores.size(1), int):
        return scores.topk(min(number, scores.size(1)), 1)
    scores, index = F.pad(scores, (0, number), value=-1).topk(number, 1)
    return scores, torch.where(scores >= 0, index, 0)


def clip(boxes: Tensor, size: Tensor, coder: Any) -> Tensor:
    """Boxes (B, N, 4) within pictures of ``size`` (B, 2), unless the coder leaves them as they are."""
    edge = size.flip(1).repeat(1, 2)[:, None]
    return torch.minimum(boxes.clamp(min=0), edge) if coder.clip_border else boxes


def best(boxes: Tensor, scores: Tensor, labels: Tensor, cfg: Any) -> tuple[Tensor, Tensor, Tensor]:
    """NMS within each label: the ``max_per_img`` best boxes of each image, by falling score; the rest scores -1."""
    valid = (scores >= 0)[..., None]
    far = torch.where(valid, boxes, 0).amax((1, 2), keepdim=True) + 1
    apart = boxes if cfg.nms.get('class_agnostic') else boxes + labels[..., None] * far
    kept = suppress(apart, scores, float(cfg.nms.iou_threshold), cfg.max_per_img)
    scores, index = top(torch.where(kept, scores, -1), cfg.max_per_img)
    return take(boxes, index), scores, labels.gather(1, index)


def exportable(model: Any, backbone: bool = False) -> Exportable:
    """The model, or its backbone alone, ready to be traced.

    Raises:
        UserError: The model predicts in a way of its own, which the classes above do not know.
    """
    if backbone:
        return Exportable(model).eval()
    if isinstance(model, ImageClassifier) and isinstance(model.head, ClsHead):
        return ExportableClassifier(model).eval()
    if not isinstance(model, (SingleStageDetector, TwoStageDetector)):
        raise UserError(f'{type(model).__name__} cannot be exported as a whole, only classifiers that decide for one '
                        'class, and detectors of one or two stages; export its --backbone')
    own = [type(module).__name__ for module, base, names in predicting_parts(model)
           if any(getattr(type(module), name, None) is not getattr(base, name) for name in names)]
    cfgs = [model.test_cfg] if isinstance(model, SingleStageDetector) else [model.test_cfg.rpn, model.test_cfg.rcnn]
    own += [f'NMS of type {cfg.nms.type}' for cfg in cfgs if cfg.nms.get('type', 'nms') != 'nms']
    own += [str(module) for module in model.modules() if type(module).__module__.startswith('mmcv.ops')
            and getattr(module, 'pool_mode', '') != 'avg']
    if own:
        raise UserError(f'{type(model).__name__} cannot be exported as a whole, since {", ".join(own)} predicts in a '
                        'way of its own; export its --backbone')
    return ExportableDetector(model).eval()


def predicting_parts(model: Any) -> list[tuple[object, type, tuple[str, ...]]]:
    """Parts of a detector, each with a class and those of its methods that :class:`ExportableDetector` stands for."""
    dense = ('predict', 'predict_by_feat', '_predict_by_feat_single', '_bbox_post_process')
    if isinstance(model, SingleStageDetector):
        return [(model, SingleStageDetector, ('predict', )),
                (model.bbox_head, BaseDenseHead, dense)]
    roi_head = model.roi_head
    parts: list[tuple[object, type, tuple[str, ...]]] = [
        (model, TwoStageDetector, ('predict', )),
        (model.rpn_head, RPNHead, dense),
        (roi_head, StandardRoIHead, ('predict', 'predict_bbox', 'predict_mask', '_bbox_forward', '_mask_forward')),
        (roi_head.bbox_head, BBoxHead, ('predict_by_feat', '_predict_by_feat_single')),
        (roi_head.bbox_roi_extractor, SingleRoIExtractor, ('forward', 'map_roi_levels'))]
    if model.with_mask:
        parts += [(roi_head.mask_head, FCNMaskHead, ('predict_by_feat', '_predict_by_feat_single')),
                  (roi_head.mask_roi_extractor, SingleRoIExtractor, ('forward', 'map_roi_levels'))]
    return parts
