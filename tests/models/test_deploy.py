"""mmltm.deploy: a copy for inference."""

import copy
import pickle

import pytest
import torch
from torch import nn

import mmltm
from mmltm.errors import UserError
from mmltm.models.builder import build_model
from mmltm.models.mergers import TOKEN_MERGERS
from tests.models.small_backbones import FAMILIES, MODES


def state_bytes(model):
    return sum(value.nbytes for value in model.state_dict().values())


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('name', FAMILIES)
@torch.no_grad()
def test_same_outputs_in_a_smaller_file(name, mode, randomize):
    family = FAMILIES[name]
    model = randomize(family.build(mode, classes=200))
    before = copy.deepcopy(model.state_dict())
    small = mmltm.deploy(model, family.size)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in small.modules())
    assert state_bytes(small) < 0.9 * state_bytes(model)
    # A map of another size, whose matrices are yet to be made, by a copy that has been a file.
    for copied, size in ((small, family.size), (pickle.loads(pickle.dumps(small)), family.size[::-1])):
        x = torch.randn(2, 3, *size)
        torch.testing.assert_close(copied(x), model(x), rtol=1e-5, atol=1e-5)
    assert all(value.equal(before[key]) for key, value in model.state_dict().items())


def test_training_is_refused_in_one_line():
    backbone = FAMILIES['LTMVisionTransformer'].build('instance')
    classifier = build_model(dict(
        type='ImageClassifier', backbone=dict(type='mmltm.LTMEfficientViT', arch='b0', ratio=0.5),
        neck=dict(type='GlobalAveragePooling'), head=dict(type='LinearClsHead', num_classes=2, in_channels=128)))
    for model in (backbone, classifier):
        small = pickle.loads(pickle.dumps(mmltm.deploy(model)))
        assert small.train(False) is small and not any(parameter.requires_grad for parameter in small.parameters())
        with pytest.raises(UserError, match='for inference'):
            small.train()
    with pytest.raises(UserError, match='for inference'):
        small(torch.zeros(1, 3, 32, 32), [], mode='loss')


@pytest.mark.parametrize('kind', TOKEN_MERGERS.module_dict)
@torch.no_grad()
def test_other_mergers_and_none_stay_what_they_are(kind):
    torch.manual_seed(0)
    merger = dict(type=kind, **({'p': 2} if kind == 'SoftMerging' else {'ratio': 0.6}))
    x = torch.randn(2, 3, 48, 48)
    for config in (merger, None):
        model = FAMILIES['LTMVisionTransformer'].make(merger=config).eval()
        torch.testing.assert_close(mmltm.deploy(model)(x), model(x), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_convolution_that_norms_share_is_left_alone():
    """As in the heads of RTMDet, whose levels share convolutions, each with a norm of its own."""
    from mmcv.cnn import ConvModule
    levels = nn.ModuleList(ConvModule(3, 3, 1, norm_cfg=dict(type='BN')) for _ in range(2))
    levels[1].conv = levels[0].conv
    for level in levels:
        level.norm.running_mean.normal_()
    x = torch.randn(1, 3, 4, 4)
    for level, small in zip(levels.eval(), mmltm.deploy(levels)):
        torch.testing.assert_close(small(x), level(x))
