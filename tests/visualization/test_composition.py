"""Weights of merged tokens against matrices multiplied by hand, and what a recorder makes of a forward pass."""

import math

import pytest
import torch

from mmltm.errors import UserError
from mmltm.merging import WindowedMerge
from mmltm.models import LTMEfficientViT, LTMMobileViT, LTMSwin, LTMVisionTransformer
from mmltm.visualization import Composition, MergeRecorder, view


def windowed(grid, source, target, seed, batch=None):
    """An operator of random masks, some of whose sources contribute nothing; with ``batch`` one a window."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        mask = torch.rand(shape, generator=generator).square()
        mask[..., 0, :] = 0
        return mask, mask

    operator = WindowedMerge(grid, source, target, lambda source, target: draw(math.prod(source), math.prod(target)))
    if batch is None:
        return operator
    return operator.with_matrices([draw(batch, region.rows.repeat * region.cols.repeat, *region.merge.shape)
                                   for region in operator.regions])


def matrix(operator, batch, image):
    """G of one image, (N, P), by merging one map for each source."""
    n = operator.grid[0] * operator.grid[1]
    maps = torch.eye(n).view(1, n, *operator.grid).expand(batch, -1, -1, -1)
    return operator.merge(maps)[image].flatten(1)


@pytest.mark.parametrize('batch', [None, 2])
@pytest.mark.parametrize('grid', [(7, 7), (16, 11), (3, 5)])  # one window, edge windows, less than a window
def test_weights_are_columns_of_the_product(grid, batch):
    first = windowed(grid, (7, 7), (5, 6), seed=0, batch=batch)
    second = windowed(first.merged_grid, (5, 6), (4, 4), seed=1, batch=batch)
    composition = Composition([first], batch or 1).then(second)
    image = (batch or 1) - 1
    product = matrix(first, batch or 1, image) @ matrix(second, batch or 1, image)
    assert composition.merged_grid == second.merged_grid
    for token in (0, product.shape[1] // 2, product.shape[1] - 1):
        torch.testing.assert_close(composition.weights(token, image).flatten(), product[:, token])
    groups = torch.where(product.amax(1) > 0, product.argmax(1), -1)
    assert (groups == -1).any()
    torch.testing.assert_close(composition.groups(image).flatten(), groups)
    cell = divmod(grid[0] * grid[1] - 1, grid[1])
    assert composition.token_at(cell, image) == groups[-1]


def test_groups_do_not_depend_on_chunks(monkeypatch):
    composition = Composition([windowed((9, 8), (7, 7), (5, 6), seed=0)])
    expected = composition.groups()
    monkeypatch.setattr('mmltm.visualization.composition.CHUNK', 500)
    assert torch.equal(composition.groups(), expected)


VIT = dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32)
SWIN = dict(embed_dims=8, depths=[1] * 4, num_heads=[1] * 4)


def vit(**merger):
    return LTMVisionTransformer(VIT, img_size=64, patch_size=8, merger=dict(dict(ratio=0.6), **merger))


def swin(**merger):
    return LTMSwin(SWIN, window_size=4, merger=dict(ratio=0.7, **merger))


def record(backbone, size=(64, 96)):
    torch.manual_seed(0)
    x = torch.randn(2, 3, *size)
    with MergeRecorder(backbone.eval()) as recorder, torch.no_grad():
        output = backbone(x)
    with torch.no_grad():
        again = backbone(x)
    torch.testing.assert_close(output, again, rtol=0, atol=0)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in backbone.modules())
    assert recorder.input_size == size
    return recorder.merges


@pytest.mark.parametrize('build, grids', [
    (lambda: LTMEfficientViT('b0', ratio=0.7), [(4, 6), (4, 6), (2, 3), (2, 3)]),
    (lambda: LTMMobileViT('xx_small', ratio=0.7), [(4, 6)] * 2 + [(2, 3)] * 4 + [(1, 2)] * 3),
    (lambda: LTMSwin(SWIN, window_size=4, ratio=0.7), [(16, 24), (8, 12), (4, 6), (2, 3)]),
    (lambda: LTMVisionTransformer(VIT, img_size=64, patch_size=8, ratio=0.6), [(8, 12)] * 3)])
def test_every_backbone_is_recorded_on_its_stages_grids(build, grids):
    merges = record(build())
    assert [merge.composition.grid for merge in merges] == grids
    for merge in merges:
        height, width = merge.composition.merged_grid
        assert merge.similarity.shape == (2, height * width)
        for image in (0, 1):
            weights = merge.composition.weights(merge.representative(image), image)
            assert weights.min() >= 0 and weights.sum().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize('build', [vit, swin])
def test_pairs_of_tome_share_their_token_evenly(build):
    for merge in record(build(type='ToMe')):
        groups = merge.composition.groups(1)
        for token in groups.unique()[:20].tolist():
            members = groups == token
            expected = members / members.sum()
            torch.testing.assert_close(merge.composition.weights(token, 1), expected, atol=1e-5, rtol=1e-5)
    assert (groups == groups[0, 0]).sum() < groups.numel()


def test_tome_leaves_as_many_groups_as_tokens():
    merges = record(vit(type='ToMe'))
    assert len(merges) == 3
    for merge in merges:
        assert len(merge.composition.groups().unique()) == merge.composition.merged_grid[1] < 96


def test_mergers_of_every_type_can_be_drawn():
    for merger in (dict(type='ToFu'), dict(type='EViT'), dict(type='Random'), dict(type='AvgPool'),
                   dict(type='LTMP', merge_threshold=0.6, prune_threshold=0.9)):
        merges = record(vit(**merger))
        assert merges, merger
        for merge in merges:
            shown = view(merge, 1, groups=True)
            assert shown.weights.max() > 0 and shown.groups.max() < merge.composition.merged_grid[1] * 12


def test_pixels_of_patches_that_merge_on_their_own_show_the_first():
    """The groups of each image against where the tokens of its first sequence went."""
    model, histories = LTMMobileViT('xx_small', merger=dict(type='ToMe', ratio=0.7)), []
    for merger in (merger for layer in model.layers[2:] for merger in layer[1].mergers):
        merger.register_forward_hook(lambda module, args, output: histories.append(output[1]))
    torch.manual_seed(0)
    with MergeRecorder(model.eval()) as recorder, torch.no_grad():
        model(torch.randn(2, 3, 64, 96))
    recorded = recorder.merges
    assert [merge.composition.grid for merge in recorded] == [(4, 6)] * 2 + [(2, 3)] * 4 + [(1, 2)] * 3
    for merge, history in zip(recorded, histories):
        for image in (0, 1):
            groups = merge.composition.groups(image).flatten()
            assert torch.equal(groups, history.source[4 * image])
            assert view(merge, image, groups=True).weights.max() > 0


def test_thresholds_are_recorded_where_tokens_come_back():
    model = LTMMobileViT('xx_small', merger=dict(type='LTMP', ratio=0.7, merge_threshold=0.6, prune_threshold=0.9))
    for merge in record(model):
        assert view(merge, 1, groups=True).groups.max() < merge.composition.merged_grid[1]


def test_point_and_pruned_point():
    composition = Composition([windowed((7, 7), (7, 7), (5, 6), seed=0)])
    merge = record(vit(type='LTM'))[0]._replace(composition=composition, similarity=torch.arange(30.)[None])
    assert view(merge, point=(0.99, 0.5)).token == composition.groups()[3, 6]
    assert view(merge, point=(0., 0.)).token == 29  # nobody takes the first cell: the most representative one
    assert view(merge, token=4).token == 4


def test_mergers_that_are_off_are_left_out():
    backbone = vit(type='LTM')
    backbone.mergers[0].active = False
    assert [merge.name for merge in record(backbone)] == ['mergers.1', 'mergers.2']


def test_vanilla_backbone_is_refused():
    with pytest.raises(UserError, match='LTMEfficientViT merges no tokens'):
        MergeRecorder(LTMEfficientViT('b0'))
