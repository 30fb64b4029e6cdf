"""``preset='paper'``: the mask module as the LTM paper has it, in every backbone."""

import pytest
import torch

import mmltm
from mmltm.merging.trace import mergers_of
from mmltm.models.backbones import LTMEfficientViT, LTMMobileViT, LTMSwin, LTMVisionTransformer

SIDE = 64
SMALL = dict(
    efficientvit=(LTMEfficientViT, dict(arch='b0')),
    efficientvit_flowing=(LTMEfficientViT, dict(arch='b0', restore='none')),
    mobilevit=(LTMMobileViT, dict(arch='xx_small')),
    mobilevit_flowing=(LTMMobileViT, dict(arch='xx_small', restore='none')),
    vit=(LTMVisionTransformer, dict(
        arch=dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32), patch_size=8)),
    swin=(LTMSwin, dict(arch=dict(embed_dims=12, depths=[2, 2], num_heads=[1, 2]), window_size=4, out_indices=1)),
)
every_backbone = pytest.mark.parametrize('name', SMALL)


def build(name, ratio=0.3, **merger):
    torch.manual_seed(0)
    cls, kwargs = SMALL[name]
    model = cls(preset='paper', merger=dict(type='LTM', ratio=ratio, img_size=SIDE, **merger), **kwargs)
    return model, list(mergers_of(model).values())


def with_statistics(merger):
    if merger.stats is not None:
        merger.stats.counts.fill_(4)
        merger.stats.assigned.fill_(4)
        merger.stats.label_q.copy_(torch.rand_like(merger.stats.label_q).softmax(1))
        merger.stats.centroids.normal_(std=0.1)


@every_backbone
def test_settings_are_the_papers(name):
    model, mergers = build(name, num_classes=3)
    assert not mergers[0].scores(*mergers[0].windows((4, 4))).any(), 'M alone'
    assert mergers[0].stats is None and all(merger.stats is not None for merger in mergers[1:])
    for before, merger in zip(mergers, mergers[1:]):
        assert merger.whole and merger.step_norm == 'none' and merger.step_gain.item() == 1
        assert not (merger.stats.normalize or merger.stats.center) and merger.stats.beta == 1
        side = merger.embed_dims // merger.groups
        assert merger.stats.projection is None and merger.step_weight.shape == (side, side)
        if merger.source not in (before.source, before.target):
            assert merger.source[0] < before.source[0], 'a stage begins with its own grid'


def test_grids_follow_what_flows_on():
    grids = [[merger.source for merger in build(name, ratio=0.5)[1]] for name in ('mobilevit', 'mobilevit_flowing')]
    # 64 pixels are 4 x 4 patches at first; 4 of 4 sides are left by ceil(4 sqrt(0.5)) = 3, 3 of 3.
    assert grids == [[(4, 4), (3, 3), *[(2, 2)] * 4, *[(1, 1)] * 3], [(4, 4), (3, 3), *[(2, 2)] * 4, *[(1, 1)] * 3]]
    grids = [[merger.source for merger in build(name, ratio=0.2)[1]] for name in ('mobilevit', 'mobilevit_flowing')]
    assert grids[0][2] == (2, 2) and grids[1][2] == (1, 1)


@every_backbone
@torch.no_grad()
@pytest.mark.parametrize('size', [(SIDE, SIDE), (96, 130), (32, 40)])
def test_any_size_image_by_image(name, size):
    model, mergers = build(name, num_classes=3)
    for merger in mergers:
        with_statistics(merger)
    model.eval()
    x = torch.randn(3, 3, *size)
    outputs = model(x)
    for output, alone in zip(outputs, model(x[1:2])):
        assert output.isfinite().all()
        torch.testing.assert_close(output[1:2], alone, atol=1e-4, rtol=1e-4)


@every_backbone
def test_parameters_of_masks_learn(name):
    model, mergers = build(name, num_classes=3)
    for merger in mergers:
        with_statistics(merger)
        merger.targets = torch.tensor([0, 2])
    sum(output.square().sum() for output in model.train()(torch.randn(2, 3, SIDE, SIDE))).backward()
    learning = [merger for merger in mergers if merger.source != merger.target]
    assert len(learning) >= 2
    for merger in learning:
        for key, parameter in merger.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), key
            assert parameter.grad.any() or merger.target == (1, 1), key


def test_settings_that_are_given_win():
    _, mergers = build('vit', window=4, rounding='area', beta=3., prior='area', num_classes=3)
    assert not mergers[1].whole and mergers[1].stats.beta == 3 and mergers[0].scores((4, 4), (4, 2)).any()
    model = mmltm.get_model('ltm_vit_t', num_classes=4, backbone=dict(preset='paper'))
    assert all(merger.whole for merger in mergers_of(model).values())
    large = mmltm.get_model('ltm_vit_t', num_classes=4, backbone=dict(preset='paper', img_size=288))
    assert next(iter(mergers_of(large).values())).source == (18, 18)


def test_bad_presets_are_named():
    with pytest.raises(ValueError, match=r"preset must be one of \('paper',\).*'book'"):
        LTMSwin(preset='book', ratio=0.7)
    with pytest.raises(ValueError, match='ToMe keeps no grid, so window=None'):
        LTMVisionTransformer('deit-tiny', merger=dict(type='ToMe', ratio=0.7, window=None))
    assert mergers_of(LTMVisionTransformer('deit-tiny', preset='paper')) == {}, 'vanilla without a ratio'


@pytest.mark.parametrize('name', ['AvgPool', 'Random'])
@torch.no_grad()
def test_other_masks_serve_whole_maps_too(name):
    model = LTMEfficientViT('b0', preset='paper', merger=dict(type=name, ratio=0.5, img_size=SIDE)).eval()
    assert model(torch.randn(2, 3, 96, 130))[-1].shape[-2:] == (3, 5)
    merger = next(iter(mergers_of(model).values()))
    operator, _ = merger(torch.randn(1, 64, 6, 9))
    assert len(operator.regions) == 1 and operator.merged_grid == (5, 7)
