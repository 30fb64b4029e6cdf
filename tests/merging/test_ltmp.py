import copy

import pytest
import torch

from mmltm.merging.ltmp import LTMP, budget_loss, match_kept, operations, soft_step
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


@pytest.mark.parametrize('class_token', [True, False])
@pytest.mark.parametrize('batch', [1, 3])
def test_evaluation_drops_what_training_masks(batch, class_token):
    """The tokens that are left are those that training does not mask, and the way back is the same."""
    torch.manual_seed(0)
    x = torch.randn(batch, 21, 4, dtype=torch.float64)
    attention, merger = attention_of(x), merger_of(0.6, 0.8)
    masked, training = merger(x, attention, History.whole(x), class_token=class_token)
    share = merger.share
    left, history = merger.eval()(x, attention, History.whole(x), class_token=class_token)
    kept = training.weights > 0
    assert left.shape[1] == kept.sum(1).max() < 21 and (kept[:, 0].all() or not class_token)
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


@pytest.mark.parametrize('mode', [True, False])
def test_without_a_class_token_the_most_important_one_stays(mode):
    torch.manual_seed(0)
    x = torch.randn(3, 12, 4)
    attention = attention_of(x)
    best = attention.scores.mean(1).sum(1).argmax(1)
    merger = merger_of(prune=100.).train(mode)
    history = merger(x, attention, History.whole(x), class_token=False)[1]
    assert torch.equal(history.present.nonzero()[:, 1], best)
    assert merger.share.item() == pytest.approx(1 / 12)
    # Two equal tokens: one of them merges, and nothing is left that could.
    x = torch.ones(1, 2, 4)
    for _ in range(2):
        tokens, history = merger_of(0.5, 100.).eval()(x, attention_of(x), History.whole(x), class_token=False)
        assert tokens.shape[1] == 1
        x = tokens


def test_the_way_back_says_whether_a_token_should_have_stayed():
    """The gradient of a mask is how the token has changed since; nothing but the way back looks at it here."""
    torch.manual_seed(0)
    x, after = torch.randn(2, 6, 4, dtype=torch.float64), torch.randn(2, 6, 4, dtype=torch.float64)
    stays = (torch.rand(2, 6, dtype=torch.float64) < 0.5).double().requires_grad_()
    back = History.whole(x).dropped(x, stays).restore(after)
    assert torch.equal(back, torch.where(stays[..., None] > 0, after, x))
    back.sum().backward()
    torch.testing.assert_close(stays.grad, (after - x).sum(-1))


@pytest.mark.parametrize('class_token', [True, False])
def test_any_token_but_a_class_token_finds_a_partner(class_token):
    x, kept = torch.randn(1, 8, 4), torch.ones(1, 8, dtype=torch.bool)
    best, _ = match_kept(x, kept, class_token)
    assert best[0].isfinite().nonzero()[:, 0].tolist() == ([2, 4, 6] if class_token else [0, 2, 4, 6])


@pytest.mark.parametrize('class_token', [True, False])
def test_gradients_reach_both_thresholds(class_token):
    torch.manual_seed(0)
    x = torch.randn(2, 15, 4)
    merger = merger_of(0.5, 0.8)
    tokens, history = merger(x, attention_of(x), History.whole(x), class_token=class_token)
    (tokens * torch.randn_like(tokens) * history.weights[..., None]).sum().backward()
    for threshold in merger.parameters():
        assert threshold.grad.isfinite() and threshold.grad != 0


def test_operations_as_the_paper_counts_them():
    """A loop over the terms of the published formula."""
    shares, n, d = [0.9, 0.5, 0.2], 50, 24
    total, before = 0, 1.0
    for share in shares:
        total += 4 * before * n * d**2 + 2 * (before * n)**2 * d + 8 * share * n * d**2
        before = share
    torch.testing.assert_close(operations(torch.tensor(shares), n, d), torch.tensor(total))
    torch.testing.assert_close(operations(torch.ones(3), n, d), torch.tensor(3. * (12 * n * d**2 + 2 * n**2 * d)))
    torch.testing.assert_close(operations(torch.ones(1), n, d, 2.), torch.tensor(8. * n * d**2 + 2 * n**2 * d))


def test_budget_is_that_of_all_stages_together():
    """Stages of 15 and 9 tokens, 4 and 8 channels, MLPs twice and four times as wide; one block without a merger."""
    first, second = merger_of(0.5, 0.8, mlp_ratio=2.), merger_of(0.5, 0.8)
    for merger, shape in ((first, (2, 15, 4)), (second, (2, 9, 8))):
        x = torch.randn(shape)
        merger(x, attention_of(x), History.whole(x), class_token=False)
    model = torch.nn.ModuleDict(dict(
        a=torch.nn.ModuleList([first]), b=torch.nn.ModuleList([second, torch.nn.Identity()])))
    one, two = first.share.detach(), second.share.detach().repeat(2)
    left = operations(one[None], 15, 4, 2.) + operations(two, 9, 8)
    full = operations(torch.ones(1), 15, 4, 2.) + operations(torch.ones(2), 9, 8)
    loss = budget_loss(model)
    torch.testing.assert_close(loss.detach(), (left / full - 0.6).square())
    loss.backward()
    assert all(threshold.grad != 0 for threshold in model.parameters())


def test_budget_pulls_thresholds_towards_fewer_tokens():
    x = torch.randn(2, 15, 4)
    merger = merger_of(0.5, 0.8)
    model = torch.nn.ModuleList([merger, torch.nn.Identity()])
    with pytest.raises(ValueError, match='has seen none'):
        budget_loss(model)
    merger.ratio = 0.01
    merger(x, attention_of(x), History.whole(x))
    share = merger.share.detach()
    loss = budget_loss(model)
    quotient = operations(share.repeat(2), 15, 4) / operations(torch.ones(2), 15, 4)
    torch.testing.assert_close(loss.detach(), (quotient - 0.01).square())
    loss.backward()
    # Descent lowers the similarity from which tokens merge, and raises the importance below which they leave.
    assert merger.merge_threshold.grad > 0 > merger.prune_threshold.grad
    assert copy.deepcopy(model)[0].share is None
    with pytest.raises(ValueError, match='no LTMP'):
        budget_loss(torch.nn.Linear(1, 1))


def test_bad_temperature_is_named():
    with pytest.raises(ValueError, match='temperature.*0'):
        merger_of(temperature=0)
