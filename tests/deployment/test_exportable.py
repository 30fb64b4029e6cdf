"""Detectors as functions of tensors predict what mmdet predicts, and their operators mean the same in ONNX."""

import numpy as np
import onnxruntime
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from torch import nn

from mmltm.apis.config import load_config
from mmltm.apis.export import trace, write_onnx
from mmltm.compat.export_ops import onnx_translations, pool_rois, suppress
from mmltm.errors import UserError
from mmltm.models.builder import build_from
from mmltm.models.exportable import exportable

SMALL_RESNET = {'model.backbone.depth': 18, 'model.backbone.base_channels': 8, 'model.backbone.init_cfg': None,
                'model.neck.in_channels': [8, 16, 32, 64]}
DETECTORS = {
    'ssd': ('configs/mini/ssdlite_ltm_mobilevit_s_mini.py', {}),
    'retinanet': ('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', SMALL_RESNET),
    'atss': ('mmdet::atss/atss_r50_fpn_1x_coco.py', SMALL_RESNET),  # with factors of scores
    'rtmdet': ('mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py', {'model.backbone.init_cfg': None}),
    'mask-rcnn': ('configs/mini/mask_rcnn_ltm_effvit_mini.py', {}),
}


def build(name, root):
    """A detector whose classes differ in score, as those of a trained one."""
    path, options = DETECTORS[name]
    cfg = load_config(path if '::' in path else str(root / path), options)
    torch.manual_seed(0)
    model = build_from(cfg).eval()
    for key, weight in model.named_parameters():
        if 'cls' in key and weight.dim() > 1:
            nn.init.normal_(weight, std=1.5 / weight[0].numel()**0.5)
    return model


@pytest.mark.parametrize('name', DETECTORS)
def test_predictions_are_mmdets(root, name):
    model = build(name, root)
    image, shapes = torch.rand(2, 3, 128, 160) * 255, [(120, 160), (128, 101)]
    samples = [DetDataSample(metainfo=dict(img_shape=shape, ori_shape=shape, scale_factor=(1., 1.)))
               for shape in shapes]
    wrapped = exportable(model)
    with torch.no_grad():
        found = dict(zip(wrapped.outputs, wrapped(image, torch.tensor(shapes).float())))
        expected = model.predict(wrapped.normalise(image), samples)
    for index, sample in enumerate(expected):
        own, instances = found['image_index'] == index, sample.pred_instances
        assert len(instances) > 5
        assert len(instances) == own.sum()
        # Boxes of equal score may come in another order.
        boxes, scores, labels = (found[key][own] for key in ('boxes', 'scores', 'labels'))
        apart = (boxes - instances.bboxes[:, None]).abs().amax(2) + 1e3 * (labels != instances.labels[:, None])
        apart += 100 * (scores - instances.scores[:, None]).abs()
        assert apart.amin(0).max() < 1e-3 and apart.amin(1).max() < 1e-3


def test_pictures_without_a_detection(root, tmp_path):
    model = build('mask-rcnn', root)  # its mask head has group normalisation
    model.roi_head.test_cfg.score_thr = 2.
    wrapped, path = exportable(model), tmp_path / 'model.onnx'
    with torch.no_grad():
        write_onnx(trace(wrapped, (128, 128)), wrapped.outputs, path, {})
    session = onnxruntime.InferenceSession(str(path))
    boxes, masks = session.run(['boxes', 'masks'], dict(
        image=np.zeros((1, 3, 128, 128), np.float32), size=np.full((1, 2), 128, np.float32)))
    assert boxes.shape == (0, 4) and masks.shape == (0, 28, 28)


class Operators(nn.Module):
    inputs = ('boxes', 'scores', 'low', 'high', 'image_index', 'levels')

    def forward(self, boxes, scores, low, high, image_index, levels):
        rois = torch.cat([image_index[:, None].float(), boxes[0]], 1)
        return suppress(boxes, scores, 0.5, 6), *(
            pool_rois([low, high], rois, levels, [0.25, 0.125], [3, 4], ratio, aligned)
            for ratio, aligned in ((0, True), (2, True), (2, False)))


def test_operators_in_onnx(tmp_path):
    generator = torch.Generator().manual_seed(0)
    corner, side = torch.rand(2, 2, 20, 2, generator=generator) * torch.tensor([60., 40.]).view(2, 1, 1, 1)
    boxes, scores = torch.cat([corner, corner + side], -1), torch.rand(2, 20, generator=generator) - 0.2
    features = torch.rand(2, 5, 24, 28, generator=generator), torch.rand(2, 5, 12, 14, generator=generator)
    index, levels = torch.randint(0, 2, (2, 20), generator=generator)
    values = boxes, scores, *features, index, levels
    batch = torch.export.Dim('batch')
    program = torch.export.export(Operators(), values, dynamic_shapes=[{0: batch}] * 4 + [{}, {}], strict=False)
    path = tmp_path / 'operators.onnx'
    torch.onnx.export(program, dynamo=True, custom_translation_table=onnx_translations(), verbose=False).save(str(path))
    session = onnxruntime.InferenceSession(str(path))
    names = [x.name for x in session.get_inputs()]
    # All boxes on one level, and another number of images, too.
    for used, images in ((levels, slice(2)), (torch.zeros_like(levels), slice(2)), (levels, slice(1))):
        given = *(x[images] for x in values[:4]), index % len(boxes[images]), used
        expected = Operators()(*given)
        for output, wanted in zip(session.run(None, dict(zip(names, (x.numpy() for x in given)))), expected):
            np.testing.assert_allclose(output.astype(np.float32), wanted.float().numpy(), atol=1e-5)


def test_what_predicts_in_its_own_way_is_refused(root):
    cfg = load_config('mmdet::yolox/yolox_tiny_8xb8-300e_coco.py')
    with pytest.raises(UserError, match='YOLOXHead predicts in a way of its own'):
        exportable(build_from(cfg))
    model = build('retinanet', root)
    model.test_cfg.nms = Config(dict(type='soft_nms', iou_threshold=0.5))
    with pytest.raises(UserError, match='NMS of type soft_nms'):
        exportable(model)
