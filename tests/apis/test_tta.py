"""Test-time augmentation: views of each image, merged into one prediction."""

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import nn

from mmltm.apis.tta import set_tta
from mmltm.models import InstanceTTAModel
from mmltm.models.builder import build_model


def config(scope, *steps):
    return Config(dict(default_scope=scope, model=dict(type='X'), test_dataloader=dict(
        collate_fn=dict(type='default_collate'), dataset=dict(dataset=dict(pipeline=[*steps])))))


@pytest.fixture
def image(tmp_path):
    path = tmp_path / 'image.png'
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (20, 40, 3), np.uint8))
    return str(path)


def test_views_of_a_detector(image):
    cfg = config('mmdet', dict(type='LoadImageFromFile'), dict(type='Resize', scale=(80, 40), keep_ratio=True),
                 dict(type='PackDetInputs', meta_keys=('img_id', 'scale_factor')))
    set_tta(cfg, [0.5, 1.])
    assert cfg.model.module == dict(type='X') and cfg.test_dataloader.collate_fn.type == 'pseudo_collate'
    with DefaultScope.overwrite_default_scope('mmdet'):
        views = Compose(cfg.test_dataloader.dataset.dataset.pipeline)(dict(img_path=image, img_id=1))
    assert [tuple(view.shape[1:]) for view in views['inputs']] == [(40, 80), (40, 80), (20, 40), (20, 40)]
    assert [sample.flip for sample in views['data_samples']] == [False, True] * 2
    assert torch.equal(views['inputs'][0].flip(-1), views['inputs'][1])


def test_a_pipeline_of_its_own(image):
    own = [dict(type='LoadImageFromFile')]
    cfg = config('mmdet', dict(type='PackDetInputs'))
    cfg.tta_pipeline, cfg.tta_model = own, dict(type='Mine')
    set_tta(cfg, [])
    assert cfg.test_dataloader.dataset.dataset.pipeline == own and cfg.model.type == 'Mine'


def test_scores_of_a_classifier_are_means(image):
    cfg = config('mmpretrain', dict(type='LoadImageFromFile'), dict(type='ResizeEdge', scale=32, edge='short'),
                 dict(type='CenterCrop', crop_size=32), dict(type='PackInputs'))
    torch.manual_seed(0)
    cfg.model = dict(
        type='ImageClassifier', data_preprocessor=dict(type='ClsDataPreprocessor', mean=[127.] * 3, std=[64.] * 3),
        backbone=dict(type='ResNet', depth=18, base_channels=4, stem_channels=4),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=3, in_channels=32))
    set_tta(cfg, [1., 1.5])
    model = build_model(cfg.model, 'mmpretrain')
    with DefaultScope.overwrite_default_scope('mmpretrain'), torch.no_grad():
        batch = pseudo_collate([Compose(cfg.test_dataloader.dataset.dataset.pipeline)(dict(img_path=image))])
        assert [tuple(view[0].shape) for view in batch['inputs']] == [(3, 32, 32)] * 4
        each = [model.module.test_step(dict(inputs=inputs, data_samples=samples))[0].pred_score
                for inputs, samples in zip(batch['inputs'], batch['data_samples'])]
        merged, = model.test_step(batch)
    assert not torch.equal(each[0], each[1])
    torch.testing.assert_close(merged.pred_score, torch.stack(each).mean(0))


class Detector(nn.Module):
    def test_step(self, data):
        raise NotImplementedError


def view(box, score, flip):
    sample = DetDataSample(metainfo=dict(ori_shape=(20, 40), flip=flip, flip_direction='horizontal' if flip else None))
    masks = torch.zeros(1, 20, 40, dtype=torch.bool)
    x1, y1, x2, y2 = box
    masks[0, y1:y2, x1:x2] = True
    sample.pred_instances = InstanceData(bboxes=torch.tensor([box]).float(), scores=torch.tensor([score]),
                                         labels=torch.tensor([0]), masks=masks)
    return sample


def test_masks_are_turned_back_and_follow_their_boxes():
    model = InstanceTTAModel(tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=10), module=Detector())
    # The object at x 2 to 12, seen better in the flipped view, at 28 to 38 there.
    merged, = model.merge_preds([[view((3, 5, 12, 15), 0.6, False), view((28, 5, 38, 15), 0.9, True)]])
    predicted = merged.pred_instances
    assert predicted.bboxes.tolist() == [[2, 5, 12, 15]]
    assert predicted.scores.tolist() == pytest.approx([0.9])
    assert predicted.masks[0, 5:15, 2:12].all() and predicted.masks.sum() == 100


def test_nothing_found():
    model = InstanceTTAModel(tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=10), module=Detector())
    samples = [view((3, 5, 12, 15), 0.6, flip) for flip in (False, True)]
    for sample in samples:
        sample.pred_instances = sample.pred_instances[:0]
    assert len(model.merge_preds([samples])[0].pred_instances) == 0
