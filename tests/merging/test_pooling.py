import copy

import pytest
import torch

from mmltm.merging import LTM
from mmltm.merging.pooling import AvgPool
from mmltm.merging.random import Random, random_mask

WINDOW = dict(source=(7, 7), target=(6, 5), embed_dims=3)


@torch.no_grad()
@pytest.mark.parametrize('size', [(7, 7), (14, 21), (9, 16), (4, 5)])
def test_average_is_where_ltm_starts(size):
    x = torch.randn(2, 3, *size)
    mine, carry = AvgPool(**WINDOW)(x)
    theirs, _ = LTM(**WINDOW).eval()(x)
    assert carry is None and mine.merged_grid == theirs.merged_grid
    y = mine.merge(x)
    torch.testing.assert_close(y, theirs.merge(x))
    torch.testing.assert_close(mine.restore(x, y, 2 * y), theirs.restore(x, y, 2 * y))


@pytest.mark.parametrize('type_', [AvgPool, Random])
def test_constants_come_back(type_):
    x = torch.full((1, 2, 9, 14), 0.7)
    operator, _ = type_(**WINDOW)(x)
    merged = operator.merge(x)
    torch.testing.assert_close(merged, torch.full_like(merged, 0.7))
    torch.testing.assert_close(operator.unmerge(merged), x, atol=5e-3, rtol=0)


def test_even_shrinking_is_average_pooling():
    x = torch.randn(2, 3, 8, 12)
    operator, _ = AvgPool((4, 4), (2, 2), 3)(x)
    torch.testing.assert_close(operator.merge(x), torch.nn.functional.avg_pool2d(x, 2))


@pytest.mark.parametrize('source, target', [((7, 7), (6, 5)), ((3, 4), (1, 1)), ((2, 2), (2, 2))])
def test_random_groups_share_all_cells(source, target):
    mask = random_mask(source, target, seed=3)
    assert ((mask > 0).sum(1) == 1).all() and ((mask > 0).sum(0) >= 1).all()
    torch.testing.assert_close(mask.sum(0), torch.ones(mask.shape[1]))
    assert torch.equal(mask, random_mask(source, target, 3))
    assert mask.numel() < 20 or not torch.equal(mask, random_mask(source, target, 4))


def test_random_masks_stay_and_travel_with_checkpoints():
    torch.manual_seed(0)
    first, second = Random(**WINDOW), Random(**WINDOW)
    assert not torch.equal(first.drawn, second.drawn)
    assert torch.equal(Random(**WINDOW, seed=5).drawn, Random(**WINDOW, seed=5).drawn)
    x = torch.randn(1, 3, 11, 16)
    expected = first(x)[0].merge(x)
    assert not torch.equal(second(x)[0].merge(x), expected)
    second.load_state_dict(first.state_dict())
    for merger in (first.train(), first.eval(), second, copy.deepcopy(second)):
        assert torch.equal(merger(x)[0].merge(x), expected)


def test_nothing_is_learnt():
    for merger in (AvgPool(**WINDOW), Random(**WINDOW)):
        assert not list(merger.parameters())
        assert merger(torch.randn(1, 3, 7, 7))[0] is merger(torch.randn(2, 3, 7, 7))[0]
