import pytest
import torch

from mmltm.merging.sequences import Attention, History
from mmltm.merging.tofu import ToFu, mlerp
from mmltm.merging.tome import ToMe, bipartite_matching


def fused(merger, x, history=None):
    attention = Attention(x[:, None], x[:, None])
    history = History.whole(x) if history is None else history
    return merger(x, attention, history, x.shape[1] - 1 - merger.r, True)


def test_early_blocks_drop_and_late_ones_merge():
    kinds = [ToFu(r=3, index=index, depth=5, prune_until=0.4).prunes for index in range(5)]
    assert kinds == [True, True, False, False, False]
    assert not ToFu(r=3, prune_until=0).prunes and ToFu(r=3, index=4, depth=5, prune_until=1).prunes
    with pytest.raises(ValueError, match='prune_until.*1.5'):
        ToFu(r=3, prune_until=1.5)


def test_dropping_leaves_the_others_as_they_were():
    torch.manual_seed(0)
    x = torch.randn(2, 12, 4)
    tokens, history = fused(ToFu(r=4, index=0, depth=2), x)
    theirs = fused(ToMe(r=4), x)[1]
    assert tokens.shape == (2, 8, 4) and torch.equal(history.source, theirs.source)
    assert torch.equal(history.sizes, torch.ones(2, 8))
    back = history.restore(tokens)
    stayed = (back == x).all(-1)
    assert stayed.sum(1).tolist() == [8, 8] and torch.equal(tokens[:, 0], x[:, 0])
    for b, gone in (~stayed).nonzero():
        assert (back[b, gone] == x[b]).all(-1).any()


def test_merging_has_the_direction_of_the_mean_and_the_largest_norm():
    torch.manual_seed(0)
    x = torch.randn(2, 15, 4, dtype=torch.float64)
    merger = ToFu(r=5, index=1, depth=2)
    first, history = fused(merger, x)
    tokens, history = fused(merger, first, history)
    assert torch.equal(history.sizes.sum(1), torch.full((2, ), 15.))
    matching = bipartite_matching(first, 4, True)
    means, _ = matching.average(first, fused(merger, x)[1].sizes)
    places = matching.indices()
    for b in range(2):
        for place in range(tokens.shape[1]):
            members = first[b, places[b] == place]
            torch.testing.assert_close(tokens[b, place].norm(), members.norm(dim=-1).max())
            angle = torch.cosine_similarity(tokens[b, place], means[b, place], 0)
            torch.testing.assert_close(angle, torch.ones_like(angle))


def test_tokens_of_one_norm_keep_it():
    x = torch.nn.functional.normalize(torch.randn(3, 20, 6), dim=-1) * 7
    merged, sizes = mlerp(x, torch.ones(3, 20), bipartite_matching(x, 9))
    torch.testing.assert_close(merged.norm(dim=-1), torch.full((3, 11), 7.))
    assert (sizes > 1).any()


def test_opposite_tokens_give_finite_numbers_and_gradients():
    x = torch.tensor([[[1., 0.], [-1., 0.]]], requires_grad=True)
    merged, _ = mlerp(x, torch.ones(1, 2), bipartite_matching(x, 1))
    merged.sum().backward()
    assert merged.isfinite().all() and x.grad.isfinite().all()
