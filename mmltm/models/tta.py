"""Test-time augmentation of detectors that predict masks, which mmdet's model refuses."""

from collections.abc import Sequence

import torch
from mmcv.ops import batched_nms
from mmdet.models import DetTTAModel
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from mmltm.registry import MODELS

# Axes of (n, H, W) masks that a flip has turned.
_AXES = dict(horizontal=[-1], vertical=[-2], diagonal=[-2, -1])


@MODELS.register_module()
class InstanceTTAModel(DetTTAModel):
    """mmdet's ``DetTTAModel`` for masks, too: each box that is left keeps the mask of the view that it is from."""

    def _merge_single_sample(self, data_samples: Sequence[DetDataSample]) -> DetDataSample:
        views = [sample.pred_instances for sample in data_samples]
        merged = data_samples[0]
        if 'masks' not in views[0]:
            return super()._merge_single_sample(data_samples)
        masks = [torch.as_tensor(view.masks).flip(_AXES[sample.flip_direction] if sample.flip else [])
                 for view, sample in zip(views, data_samples)]
        boxes, scores = self.merge_aug_bboxes(
            [view.bboxes for view in views], [view.scores for view in views],
            [sample.metainfo for sample in data_samples])
        if not len(boxes):
            return merged
        labels = torch.cat([view.labels for view in views])
        detections, kept = batched_nms(boxes, scores, labels, self.tta_cfg['nms'])
        detections, kept = (values[:self.tta_cfg['max_per_img']] for values in (detections, kept))
        merged.pred_instances = InstanceData(
            bboxes=detections[:, :4], scores=detections[:, 4], labels=labels[kept], masks=torch.cat(masks)[kept])
        return merged
