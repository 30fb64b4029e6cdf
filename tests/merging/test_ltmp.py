import copy

import pytest
import torch

from mmltm.merging.ltmp import LTMP, budget_loss, match_kept, operations_share, soft_step
from mmltm.merging.sequences import Attention, History
from mmltm.merging.tome import bipartite_matching


def attention_of(x, heads=2):
    keys = x[:, None].expand(-1, heads, -1, -1)
    scores = (torch.randn(len(x), heads, x.shape[1], x.shape[1], dtype=x.dtype) * 3).softmax(-1)
    return Attention(keys, keys, scores)


def merger_of(merge=1.0, prune=0.0, **kwargs):
    return LTMP(ratio=0.6, merge_threshold=merge, prune_threshold=prune, **kwargs)


def test_step_is_hard_with_a_soft_gradient():
    scores, threshold = torch.tensor([0.2, 0.5, 0.7]), torch.tensor(0.5, requires_grad=True)
    step = soft_step(scores, threshold, 0.1)
    assert step.tolist() == [0., 0., 1.]
    step.sum().backward()
    soft = torch.sigmoid((scores - 0.5) / 0.1)
    torch.testing.assert_close(threshold.grad, -(soft * (1 - soft)).sum() / 0.1)


def test_matching_is_tomes_where_all_tokens_are_kept():
    torch.manual_seed(0)
    x = torch.randn(2, 11, 4)
    best, partners = match_kept(x, torch.ones(2, 11, dtype=torch.bool))
    matching = bipartite_matching(x, 3, True)
    assert best[:, 0].isinf().all() and best[:, 1::2].isinf().all() and best[:, 2::2].isfinite().all()
    top = best.topk(3).indices
    assert torch.equal(top, 2 * matching.merged)
    assert torch.equal(partners.gather(1, top), 2 * matching.into + 1)


def test_matching_skips_tokens_that_are_gone():
    torch.manual_seed(0)
    x, kept = torch.randn(1, 11, 4), torch.ones(1, 11, dtype=torch.bool)
    kept[0, [2, 7]] = False
    left = kept[0].nonzero()[:, 0]
    best, partners = match_kept(x, kept)
    expected, others = match_kept(x[:, left], torch.ones(1, 9, dtype=torch.bool))
    torch.testing.assert_close(best[:, left], expected)
    assert torch.equal(partners[0, left][2::2], left[others[0]][2::2]) and best[0, [2, 7]].isinf().all()


def test_at_the_start_nothing_happens():
    x = torch.randn(2, 9, 4)
    for mode in (True, False):
        tokens, history = merger_of().train(mode)(x, attention_of(x), History.whole(x))
        torch.testing.assert_close(tokens, x, atol=0, rtol=0)
        assert (history.weights == 1).all() if mode else history.weights is None


@pytest.mark.parametrize('batch', [1, 3])
def test_evaluation_drops_what_training_masks(batch):
    """The tokens that are left are those that training does not mask, and the way back is the same."""
    torch.manual_seed(0)
    x = torch.randn(batch, 21, 4, dtype=torch.float64)
    attention, merger = attention_of(x), merger_of(0.6, 0.8)
    masked, training = merger(x, attention, History.whole(x))
    share = merger.share
    left, history = merger.eval()(x, attention, History.whole(x))
    kept = training.weights > 0
    assert left.shape[1] == kept.sum(1).max() < 21 and kept[:, 0].all()
    torch.testing.assert_close(share, kept.float().mean())
    assert share == merger.share
    weights = torch.ones(left.shape[:2]) if history.weights is None else history.weights
    assert (history.weights is None) == (batch == 1)
    for b in range(batch):
        assert torch.equal(left[b, weights[b] > 0], masked[b, kept[b]])
    assert torch.equal(history.restore(left), training.restore(masked))


def test_one_image_token_by_token():
    """Against a loop: similar tokens merge, unimportant ones leave, and come back as they were."""
    torch.manual_seed(1)
    x = torch.randn(1, 31, 4, dtype=torch.float64)
    attention = attention_of(x)
    tokens, history = merger_of(0.5, 0.7).eval()(x, attention, History.whole(x))
    importance = attention.scores.mean(1).sum(1)[0]
    torch.testing.assert_close(importance.mean(), importance.new_tensor(1.))

    unit = x[0] / x[0].norm(dim=-1, keepdim=True)
    groups = list(range(31))
    for even in range(2, 31, 2):
        similarity, odd = max((float(unit[even] @ unit[odd]), odd) for odd in range(1, 31, 2))
        groups[even] = odd if similarity > 0.5 else even
    means = {group: x[0, [i for i in range(31) if groups[i] == group]].mean(0) for group in groups}
    left = [group for group in sorted(means) if group == 0 or importance[group] > 0.7]
    assert 1 < len(left) < len(means) < 31

    torch.testing.assert_close(tokens[0], torch.stack([means[group] for group in left]))
    assert history.sizes[0].tolist() == [groups.count(group) for group in left]
    back = history.restore(tokens + 1)[0]
    for token, group in enumerate(groups):
        torch.testing.assert_close(back[token], means[group] + (group in left))


def test_gradients_reach_both_thresholds():
    torch.manual_seed(0)
    x = torch.randn(2, 15, 4)
    merger = merger_of(0.5, 0.8)
    tokens, history = merger(x, attention_of(x), History.whole(x))
    (tokens * torch.randn_like(tokens) * history.weights[..., None]).sum().backward()
    for threshold in merger.parameters():
        assert threshold.grad.isfinite() and threshold.grad != 0


def test_operations_as_the_paper_counts_them():
    """A loop over the terms of the published formula."""
    shares, n, d = [0.9, 0.5, 0.2], 50, 24
    total, before = 0, 1.0
    for share in shares:
        total += (2 * before * n * d**2 + (before * n)**2 * d + 4 * share * n * d**2) / (6 * n * d**2 + n**2 * d)
        before = share
    torch.testing.assert_close(operations_share(torch.tensor(shares), n, d), torch.tensor(total / 3))
    torch.testing.assert_close(operations_share(torch.ones(3), n, d), torch.tensor(1.))


def test_budget_pulls_thresholds_towards_fewer_tokens():
    x = torch.randn(2, 15, 4)
    merger = merger_of(0.5, 0.8)
    model = torch.nn.ModuleList([merger])
    with pytest.raises(ValueError, match='has seen none'):
        budget_loss(model)
    merger.ratio = 0.01
    merger(x, attention_of(x), History.whole(x))
    share = merger.share.detach()
    loss = budget_loss(model)
    torch.testing.assert_close(loss.detach(), (operations_share(share.repeat(2), 15, 4) - 0.01).square())
    loss.backward()
    # Descent lowers the similarity from which tokens merge, and raises the importance below which they leave.
    assert merger.merge_threshold.grad > 0 > merger.prune_threshold.grad
    assert copy.deepcopy(model)[0].share is None
    with pytest.raises(ValueError, match='no LTMP'):
        budget_loss(torch.nn.Linear(1, 1))


def test_bad_temperature_is_named():
    with pytest.raises(ValueError, match='temperature.*0'):
        merger_of(temperature=0)
