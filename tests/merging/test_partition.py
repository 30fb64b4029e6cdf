import math

import pytest
import torch

from mmltm.merging import LTM
from mmltm.merging.grids import local_overlap, window_schedule
from mmltm.merging.partition import local_partition
from mmltm.models import LTMVisionTransformer


def chain(window, ratio, depth):
    grids = window_schedule(window, [ratio] * depth, 'area')
    return [local_partition(*pair, window) for pair in zip(grids, grids[1:])]


@pytest.mark.parametrize('window', [(8, 8), (7, 7), (4, 9), (1, 6), (14, 14)])
@pytest.mark.parametrize('ratio', [0.9, 0.7, 0.3])
def test_groups_stay_together_and_of_about_one_size(window, ratio):
    """A token of the last block stands for as many tokens of the first as any other, give or take."""
    whole = torch.eye(math.prod(window), dtype=torch.float64)
    for mask in chain(window, ratio, 5):
        assert ((mask == 0) | (mask == 1)).all()
        assert (mask.sum(1) == 1).all() and (mask.sum(0) >= 1).all()
        whole = whole @ mask
        sizes = whole.sum(0)
        assert sizes.max() <= 3 * sizes.mean() + 1e-9


@pytest.mark.parametrize('window', [(8, 8), (6, 10)])
def test_groups_are_near_what_they_come_from(window):
    """Nearer than intervals of the same number would have them, and laid out where the grid has them."""
    n = math.prod(window)
    cells = torch.stack(torch.meshgrid(*(torch.arange(side) + 0.5 for side in window), indexing='ij'), -1).view(n, 2)
    grids = window_schedule(window, [0.6] * 3, 'area')
    whole = torch.eye(n, dtype=torch.float64)
    for mask, grid in zip(chain(window, 0.6, 3), grids[1:]):
        whole = whole @ mask
        middles = (whole.T / whole.sum(0)[:, None]) @ cells.double()
        spread = (cells - whole @ middles).square().sum(1).mean()
        sides = [size / count for size, count in zip(window, grid)]
        # Of a rectangle of so many cells, and of cells within it.
        assert spread < sum(side ** 2 - 1 for side in sides) / 12 + 0.35
        places = torch.stack(torch.meshgrid(*((torch.arange(count) + 0.5) * side for count, side in zip(grid, sides)),
                                            indexing='ij'), -1).view(-1, 2)
        assert (middles - places).norm(dim=1).mean() < max(sides)


def test_merges_are_spread_over_the_window():
    """Pairs are joined in all quarters, not in one corner."""
    joined = (local_partition((8, 8), (7, 7), (8, 8)).sum(0) > 1).double()
    pairs = local_partition((8, 8), (7, 7), (8, 8)) @ joined
    quarters = pairs.view(2, 4, 2, 4).sum((1, 3))
    assert pairs.sum() >= 24 and quarters.min() >= 3


def test_same_grid_is_the_identity():
    assert torch.equal(local_partition((3, 5), (3, 5), (3, 5)), torch.eye(15, dtype=torch.float64))
    assert torch.equal(local_partition((1, 1), (1, 1), (1, 1)), torch.ones(1, 1, dtype=torch.float64))
    merged = local_partition((5, 5), (5, 5), (8, 8))
    assert torch.equal(merged, torch.eye(25, dtype=torch.float64))


def test_ltm_starts_there():
    ltm = LTM((5, 5), (4, 4), embed_dims=3, base=(7, 7), prior='partition').eval()
    groups = local_partition((5, 5), (4, 4), (7, 7)).float()
    torch.testing.assert_close(ltm.matrices((5, 5), (4, 4))[0], groups / groups.sum(0))
    # What is left beside whole windows has no history but its own.
    rest = local_partition((5, 3), (4, 2), (5, 3)).float()
    torch.testing.assert_close(ltm.matrices((5, 3), (4, 2))[0], rest / rest.sum(0))
    area = LTM((5, 5), (4, 4), embed_dims=3, base=(7, 7)).eval()
    overlap = local_overlap((5, 5), (4, 4)).float()
    torch.testing.assert_close(area.matrices((5, 5), (4, 4))[0], overlap / overlap.sum(0))


def test_blocks_of_a_backbone_go_on_from_each_other():
    model = LTMVisionTransformer(
        arch=dict(embed_dims=24, num_layers=6, num_heads=2, feedforward_channels=48), img_size=128, patch_size=16,
        merger=dict(type='LTM', ratio=0.5, window=8, prior='partition')).eval()
    layers = [module for module in model.modules() if isinstance(module, LTM)]
    assert len(layers) > 2 and all(layer.base == (8, 8) for layer in layers)
    whole = torch.eye(64)
    for layer in layers:
        whole = whole @ (layer.matrices(layer.source, layer.target)[0] > 0).float()
    assert (whole.sum(1) == 1).all() and whole.sum(0).max() <= 3 * whole.sum(0).mean()
