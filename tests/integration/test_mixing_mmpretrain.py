"""Backbones with token merging in configs that ship with mmpretrain."""

import pytest
import torch
from mmengine.hub import get_config
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from tests.integration.mixtures import BACKBONES, VIT, assert_all_learn, pyramid


def learn_and_predict(cfg):
    """Loss, backward pass and prediction on two random images."""
    torch.manual_seed(0)
    model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    samples = [DataSample().set_gt_label(label) for label in (3, 900)]
    batch = dict(inputs=torch.randint(0, 256, (2, 3, 64, 64)), data_samples=samples)
    losses, _ = model.parse_losses(model(**model.data_preprocessor(batch, True), mode='loss'))
    losses.backward()
    assert_all_learn(model.backbone)
    with torch.no_grad():
        results = model.eval()(**model.data_preprocessor(batch, False), mode='predict')
    for result in results:
        torch.testing.assert_close(result.pred_score.sum(), torch.tensor(1.))


@pytest.fixture(autouse=True)
def mmpretrain_scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


@pytest.mark.parametrize('name', BACKBONES)
def test_mixing_in_a_classifier(name):
    cfg = get_config('mmpretrain::resnet/resnet18_8xb32_in1k.py')
    cfg.model.backbone, (cfg.model.head.in_channels, ) = pyramid(name, 1)
    learn_and_predict(cfg)


def test_mixing_a_plain_backbone_in_a_classifier():
    cfg = get_config('mmpretrain::deit/deit-tiny_4xb256_in1k.py')
    cfg.model.backbone = dict(VIT, patch_size=8)
    cfg.model.head.in_channels = 48
    cfg.model.train_cfg = None
    learn_and_predict(cfg)
