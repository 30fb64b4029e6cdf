"""Backbones with token merging in configs that ship with mmdet: nothing else is changed but what makes them small."""

import uuid

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.hub import get_config
from mmengine.logging import MessageHub
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope

from tests.integration.mixtures import VIT, assert_all_learn, pyramid

FEW_PROPOSALS = {
    'train_cfg.rpn_proposal.max_per_img': 20, 'test_cfg.rpn.max_per_img': 20, 'test_cfg.rcnn.max_per_img': 5}
FEW_ROIS = {'train_cfg.rcnn.sampler.num': 16}
SMALL_FC = {'roi_head.bbox_head.fc_out_channels': 32}
SHALLOW = {'num_queries': 10, 'encoder.num_layers': 1, 'decoder.num_layers': 2}
#: Backbone for each config, and what makes it quick: fewer proposals, queries and layers.
DETECTORS = {
    'retinanet/retinanet_r50_fpn_1x_coco': ('EfficientViT', {}),
    'faster_rcnn/faster-rcnn_r50_fpn_1x_coco': ('MobileViT', {**FEW_PROPOSALS, **FEW_ROIS, **SMALL_FC}),
    'mask_rcnn/mask-rcnn_r50_fpn_1x_coco': ('Swin', {**FEW_PROPOSALS, **FEW_ROIS, **SMALL_FC}),
    'cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco': ('EfficientViT', {
        **FEW_PROPOSALS, **{f'train_cfg.rcnn.{i}.sampler.num': 16 for i in range(3)},
        **{f'roi_head.bbox_head.{i}.fc_out_channels': 32 for i in range(3)}}),
    'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco': ('MobileViT', {}),
    'atss/atss_r50_fpn_1x_coco': ('Swin', {}),
    'gfl/gfl_r50_fpn_1x_coco': ('EfficientViT', {}),
    'rtmdet/rtmdet-ins_tiny_8xb32-300e_coco': ('MobileViT', {}),
    'yolox/yolox_tiny_8xb8-300e_coco': ('Swin', {}),
    'deformable_detr/deformable-detr_r50_16xb2-50e_coco': ('EfficientViT', SHALLOW),
    'dino/dino-4scale_r50_8xb2-12e_coco': ('MobileViT', {**SHALLOW, 'dn_cfg.group_cfg.num_dn_queries': 10}),
    'mask2former/mask2former_r50_8xb2-lsj-50e_coco': ('Swin', {
        'data_preprocessor.batch_augments': None, 'panoptic_head.num_queries': 10,
        'panoptic_head.pixel_decoder.encoder.num_layers': 1,
        'panoptic_head.transformer_decoder.num_layers': 3, 'train_cfg.num_points': 112,
        'test_cfg.max_per_image': 5}),
    'solov2/solov2_r50_fpn_1x_coco': ('EfficientViT', {
        'mask_head.stacked_convs': 1, 'mask_head.feat_channels': 64, 'mask_head.num_grids': [8, 6, 4, 3, 2]}),
    'condinst/condinst_r50_fpn_ms-poly-90k_coco_instance': ('MobileViT', {}),
}


@pytest.fixture(autouse=True)
def mmdet_scope():
    """What mmengine's runner sets up: the default scope, and a hub that counts iterations."""
    hub = MessageHub.get_instance(uuid.uuid4().hex)
    hub.update_info('iter', 0)
    hub.update_info('epoch', 0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def load(name, options):
    cfg = get_config(f'mmdet::{name}.py')
    cfg.merge_from_dict({f'model.{key}': value for key, value in options.items()})
    return cfg.model


def learn_and_predict(model_cfg):
    """Loss, backward pass and prediction on two random images."""
    torch.manual_seed(0)
    model = revert_sync_batchnorm(MODELS.build(model_cfg))
    model.init_weights()
    batch = demo_mm_inputs(2, (3, 96, 64), num_classes=80, with_mask=True)
    losses, _ = model.parse_losses(model(**model.data_preprocessor(batch, True), mode='loss'))
    assert losses.isfinite()
    losses.backward()
    assert_all_learn(model.backbone)
    with torch.no_grad():
        results = model.eval()(**model.data_preprocessor(batch, False), mode='predict')
    assert len(results) == 2
    for result in results:
        instances = result.pred_instances
        assert instances.scores.isfinite().all() and instances.bboxes.shape == (len(instances.scores), 4)
        assert 'masks' not in instances or len(instances.masks) == len(instances)


@pytest.mark.parametrize('name', DETECTORS)
def test_mixing_in_a_detector(name):
    backbone, options = DETECTORS[name]
    cfg = load(name, options)
    reader = cfg.get('neck') or cfg.panoptic_head
    skipped = reader.pop('start_level', 0)
    # Maps that an FPN would skip are not made: what makes them would wait for a gradient in vain.
    cfg.backbone, reader.in_channels = pyramid(backbone, len(reader.in_channels) - skipped)
    learn_and_predict(cfg)


def test_mixing_a_plain_backbone():
    """With the pyramid that belongs to it in the place of the neck."""
    cfg = load('mask_rcnn/mask-rcnn_r50_fpn_1x_coco', {**FEW_PROPOSALS, **FEW_ROIS, **SMALL_FC})
    cfg.backbone = dict(VIT, patch_size=16, out_type='featmap')
    cfg.neck = dict(type='mmltm.SimpleFPN', in_channels=48)
    learn_and_predict(cfg)
