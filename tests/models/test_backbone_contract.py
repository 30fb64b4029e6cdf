"""What every backbone owes mmpretrain and mmdet, whatever it computes."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmltm.models import (
    EfficientViT,
    LTMEfficientViT,
    LTMMobileViT,
    LTMSwin,
    LTMSwinV2,
    LTMVisionTransformer,
    LTMViTSAM,
)


class Case(NamedTuple):
    """A small backbone.

    Attributes:
        build (Callable): Takes the constructor's arguments.
        strides (Sequence[int]): Of all outputs.
        stages (Sequence[tuple]): Patterns of the names of parameters and modules, and functions from the number in a
            pattern's group, if it has one, to the least ``frozen_stages`` that freezes them.
        frozen (Sequence[int]): Values of ``frozen_stages``.
        norm_cfg (dict): One that tells every norm by its attribute.
        normalized (Callable): Whether a norm is of that config.
    """
    build: Callable[..., nn.Module]
    strides: Sequence[int]
    stages: Sequence[tuple]
    frozen: Sequence[int]
    norm_cfg: dict
    normalized: Callable[[nn.Module], bool]


def seeded(type_, *args, **defaults):
    def build(**kwargs):
        torch.manual_seed(0)
        return type_(*args, **{**defaults, **kwargs})

    return build


CONVOLUTIONAL = dict(
    norm_cfg=dict(type='GN', num_groups=2), normalized=lambda norm: isinstance(norm, nn.GroupNorm))
TRANSFORMER = dict(norm_cfg=dict(type='LN', eps=1e-3), normalized=lambda norm: norm.eps == 1e-3)
EFFICIENTVIT = dict(
    strides=(2, 4, 8, 16, 32), stages=((r'^stem', lambda _: 0), (r'^stages\.(\d)', lambda stage: stage + 1)),
    frozen=(-1, 0, 3, 4), **CONVOLUTIONAL)
VIT = dict(embed_dims=24, num_layers=3, num_heads=2, feedforward_channels=48)
SAM = dict(VIT, num_layers=4, global_attn_indexes=[1])
SWIN = dict(embed_dims=12, depths=[2, 1, 2, 1], num_heads=[1, 2, 2, 4])
SWINS = dict(
    strides=(4, 8, 16, 32), stages=((r'^(?:patch_embed|absolute_pos_embed|drop_after_pos)', lambda _: 0),
                                    (r'^(?:stages\.|norm)(\d)', lambda stage: stage)),
    frozen=(-1, 0, 2, 3), **TRANSFORMER)

CASES = dict(
    EfficientViT=Case(seeded(EfficientViT, 'b0'), **EFFICIENTVIT),
    LTMEfficientViT=Case(seeded(LTMEfficientViT, 'b0', ratio=0.5), **EFFICIENTVIT),
    LTMMobileViT=Case(
        seeded(LTMMobileViT, 'xx_small', ratio=0.5), (2, 4, 8, 16, 32),
        ((r'^stem', lambda _: 0), (r'^layers\.(\d)', lambda stage: stage + 1), (r'^conv_1x1_exp', lambda _: 5)),
        frozen=(-1, 0, 3, 5), **CONVOLUTIONAL),
    LTMVisionTransformer=Case(
        seeded(LTMVisionTransformer, VIT, ratio=0.5, img_size=64, out_type='featmap', pre_norm=True), (16, 16, 16),
        ((r'^(?:patch_embed|pos_embed|cls_token|pre_norm|drop_after_pos)', lambda _: 1),
         (r'^(?:layers|mergers)\.(\d)', lambda layer: layer + 1), (r'^ln1', lambda _: 3)),
        frozen=(-1, 1, 3), **TRANSFORMER),
    LTMViTSAM=Case(
        seeded(LTMViTSAM, SAM, ratio=0.5, img_size=64, window_size=3, out_channels=0), (16, 16, 16, 16),
        ((r'^(?:patch_embed|pos_embed|drop_after_pos)', lambda _: 1),
         (r'^(?:layers|mergers)\.(\d)', lambda layer: layer + 1)),
        frozen=(-1, 1, 4), **TRANSFORMER),
    LTMSwin=Case(
        seeded(LTMSwin, SWIN, ratio=0.5, img_size=64, drop_path_rate=0., use_abs_pos_embed=True), **SWINS),
    LTMSwinV2=Case(
        seeded(LTMSwinV2, dict(SWIN, extra_norm_every_n_blocks=2), ratio=0.5, img_size=64, drop_path_rate=0.,
               use_abs_pos_embed=True, window_size=4), **SWINS),
)


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@torch.no_grad()
def test_negative_indices_count_from_the_end(case):
    count = len(case.strides)
    x = torch.randn(1, 3, 64, 64)
    for negative, positive in (((0, -1), (0, count - 1)), ((-count, -2), (0, count - 2)), (-1, (count - 1, ))):
        models = [case.build(out_indices=indices).eval() for indices in (negative, positive)]
        assert models[0].state_dict().keys() == models[1].state_dict().keys()
        outputs = [model(x) for model in models]
        assert isinstance(outputs[0], tuple) and len(outputs[0]) == len(positive)
        torch.testing.assert_close(*outputs, rtol=0, atol=0)


@torch.no_grad()
@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('size', [(33, 47), (64, 96), (97, 65)])
def test_maps_of_any_size_keep_their_nominal_stride(case, size, batch):
    model = case.build(out_indices=range(len(case.strides))).eval()
    for output, stride in zip(model(torch.randn(batch, 3, *size)), case.strides, strict=True):
        assert output.shape[::2] == (batch, -(-size[0] // stride)) and output.shape[3] == -(-size[1] // stride)
        assert output.isfinite().all()


def test_every_parameter_learns_at_any_out_indices(case):
    count = len(case.strides)
    for indices in [(index, ) for index in range(count)] + [(0, count - 1)]:
        model = case.build(out_indices=indices)
        # A norm's output has the same mean square whatever comes before: hence random weights.
        sum((output * torch.randn_like(output)).sum() for output in model(torch.randn(2, 3, 64, 64))).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), (indices, name)


def test_frozen_from_construction_on(case):
    def threshold(name):
        for pattern, stage in case.stages:
            match = re.match(pattern, name)
            if match:
                return stage(int(match[1]) if match.groups() else None)

    for frozen in case.frozen:
        model = case.build(out_indices=range(len(case.strides)), frozen_stages=frozen)
        for _ in range(2):
            for name, parameter in model.named_parameters():
                assert parameter.requires_grad == (threshold(name) > frozen), (frozen, name)
            for name, module in model.named_modules():
                # Containers aside, which hold frozen and other modules.
                if not isinstance(module, nn.ModuleList) and threshold(name) is not None:
                    assert module.training == (threshold(name) > frozen), (frozen, name)
            assert model.train() is model
        assert model.eval() is model and not any(module.training for module in model.modules())


def test_norm_cfg_reaches_every_block(case):
    model = case.build(norm_cfg=case.norm_cfg)
    kinds = (nn.LayerNorm, ) if case.norm_cfg['type'] == 'LN' else (nn.GroupNorm, _BatchNorm)
    norms = [module for module in model.modules() if isinstance(module, kinds)]
    assert len(norms) > 6 and all(case.normalized(norm) for norm in norms)


@pytest.mark.parametrize('name', ['EfficientViT', 'LTMEfficientViT', 'LTMMobileViT'])
def test_synchronized_norms(name):
    norms = [module for module in CASES[name].build(norm_cfg=dict(type='SyncBN')).modules()
             if isinstance(module, _BatchNorm)]
    assert norms and all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)


def test_recomputed_activations_change_no_gradient(case):
    grads = []
    for with_cp in (False, True):
        model = case.build(with_cp=with_cp)
        torch.manual_seed(1)
        output = model(torch.randn(2, 3, 96, 64, requires_grad=True))[0]
        (output * torch.randn_like(output)).mean().backward()
        grads.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(*grads)
