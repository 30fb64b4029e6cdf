import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmltm.merging import LTM
from mmltm.merging.sequences import Attention, History, take
from mmltm.merging.tome import ToMe, bipartite_matching

CASES = range(4)


@pytest.fixture(scope='module')
def golden(shared):
    with np.load(shared / 'golden' / 'tome_reference.npz') as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def keys(tokens):
    """An attention whose keys, averaged over two heads, are the tokens."""
    shift = torch.randn_like(tokens)
    heads = torch.stack([tokens + shift, tokens - shift], 1)
    return Attention(heads, heads)


def merge(x, metric, r, class_token, history):
    return ToMe(r=r)(x, keys(metric), history, x.shape[1] - class_token - r, class_token)


@pytest.mark.parametrize('case', CASES)
def test_decisions_and_tokens_are_those_of_the_published_method(golden, case):
    value = {name.split('_', 1)[1]: tensor for name, tensor in golden.items() if name.startswith(f'{case}_')}
    r, class_token, x = int(value['r']), bool(value['class_token']), value['x']
    merged, history = merge(x, value['metric'], r, class_token, History.whole(x))
    places = torch.arange(merged.shape[1])[:, None]
    assert torch.equal((history.source[:, None] == places).float(), value['source'])
    torch.testing.assert_close(merged, value['merged'], atol=1e-4, rtol=0)
    torch.testing.assert_close(history.sizes[..., None], value['size'])
    torch.testing.assert_close(history.restore(merged), value['unmerged'], atol=1e-4, rtol=0)
    again, history = merge(merged, value['metric2'], r, class_token, history)
    torch.testing.assert_close(again, value['merged2'], atol=1e-4, rtol=0)
    torch.testing.assert_close(history.sizes[..., None], value['size2'])
    assert torch.equal(history.weights, history.sizes)


@settings(max_examples=30)
@given(count=st.integers(2, 40), r=st.integers(1, 30), class_token=st.booleans(), seed=st.integers(0, 99))
def test_two_merges_are_means_over_groups(count, r, class_token, seed):
    """Every merged token is the mean of what went into it, however it came there, and none is lost."""
    torch.manual_seed(seed)
    x, history = torch.randn(2, count, 3, dtype=torch.float64), None
    tokens, history = x, History.whole(x)
    for _ in range(2):
        before = tokens.shape[1]
        tokens, history = merge(tokens, torch.randn(2, before, 4), r, class_token, history)
        assert tokens.shape[1] == before - min(r, (before - class_token) // 2)
    assert torch.equal(history.sizes.sum(1), torch.full((2, ), float(count)))
    for b in range(2):
        for place in range(tokens.shape[1]):
            members = history.source[b] == place
            assert members.sum() == history.sizes[b, place]
            torch.testing.assert_close(tokens[b, place], x[b, members].mean(0))
    if class_token:
        assert torch.equal(tokens[:, 0], x[:, 0]) and (history.source[:, 0] == 0).all()


def test_pairs_are_the_most_similar_ones():
    """Against all pairs of one token at an even and one at an odd place, in float64."""
    torch.manual_seed(0)
    metric = torch.randn(1, 12, 5, dtype=torch.float64)
    matching = bipartite_matching(metric, 3)
    unit = metric[0] / metric[0].norm(dim=-1, keepdim=True)
    best = {even: max((float(unit[even] @ unit[odd]), odd) for odd in range(1, 12, 2)) for even in range(0, 12, 2)}
    expected = sorted(best, key=lambda even: -best[even][0])
    assert [2 * int(index) for index in matching.merged[0]] == expected[:3]
    assert [2 * int(index) + 1 for index in matching.into[0]] == [best[even][1] for even in expected[:3]]
    assert [2 * int(index) for index in matching.kept[0]] == expected[3:]


def test_constants_come_back():
    x = torch.full((2, 9, 3), 0.3)
    merged, history = merge(x, torch.randn(2, 9, 4), 4, True, History.whole(x))
    torch.testing.assert_close(history.restore(merged), x)


def test_no_merge_is_no_change():
    x = torch.randn(2, 9, 3)
    history = History.whole(x)
    merged, after = ToMe(r=0)(x, keys(x), history, 8, True)
    assert merged is x and after is history and after.weights is None


def test_gradients_reach_all_tokens():
    x = torch.randn(2, 9, 3, requires_grad=True)
    merged, _ = merge(x, x.detach(), 4, True, History.whole(x))
    (merged * torch.randn_like(merged)).sum().backward()
    assert (x.grad != 0).all()


def test_plain_attention_on_demand():
    x = torch.randn(1, 9, 3)
    assert ToMe(r=2, proportional=False)(x, keys(x), History.whole(x), 6, True)[1].weights is None


@pytest.mark.parametrize('grid', [(14, 14), (9, 16), (3, 5)])
def test_as_many_tokens_as_ltm_leaves(grid):
    operator, _ = LTM((7, 7), (6, 5), 3)(torch.empty(1, 3, *grid))
    assert ToMe((7, 7), (6, 5)).remaining(0, grid) == (math.prod(operator.merged_grid), operator.merged_grid)


def test_as_many_tokens_leave_as_are_asked():
    assert ToMe(r=5).remaining(49, (7, 7)) == (44, (7, 7)) and ToMe(r=60).remaining(49, (7, 7)) == (1, (7, 7))


@pytest.mark.parametrize('count, keep, left', [(49, 24, 25), (16, 8, 8), (16, 4, 8), (2, 1, 1), (1, 1, 1)])
def test_at_most_half_leave(count, keep, left):
    x = torch.randn(2, count, 3)
    merged, history = ToMe((7, 7), (4, 6))(x, keys(x), History.whole(x), keep, False)
    assert merged.shape == (2, left, 3) and (history.sizes.sum(1) == count).all()


def test_without_the_way_back():
    x = torch.randn(2, 9, 3)
    tracked = merge(x, x, 4, True, History.whole(x))
    tokens, history = merge(x, x, 4, True, History.whole(x, track=False))
    assert history.source is None and torch.equal(tokens, tracked[0])


def test_take():
    x = torch.arange(12.).view(2, 3, 2)
    assert take(x, torch.tensor([[2], [0]])).tolist() == [[[4, 5]], [[6, 7]]]
