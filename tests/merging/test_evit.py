import pytest
import torch

from mmltm.merging.evit import EViT, class_attention
from mmltm.merging.sequences import Attention, History


def attention_of(count, heads=3, batch=2):
    return Attention(*torch.randn(2, batch, heads, count, 4, dtype=torch.float64))


def test_class_attention_is_a_row_of_all_scores():
    attention = attention_of(7)
    scores = (attention.queries @ attention.keys.mT / 2).softmax(-1)
    torch.testing.assert_close(class_attention(attention), scores[:, :, 0, 1:].mean(1))


@pytest.mark.parametrize('keep', [1, 2, 5, 9])
def test_most_attended_tokens_stay_and_the_others_are_fused(keep):
    torch.manual_seed(keep)
    x, attention = torch.randn(2, 11, 3, dtype=torch.float64), attention_of(11)
    tokens, history = EViT(r=10 - keep)(x, attention, History.whole(x), keep, True)
    assert tokens.shape == (2, keep + 1, 3) and history.weights is None
    assert history.sizes.sum(1).tolist() == [11, 11]
    weights = class_attention(attention)
    for b in range(2):
        ranked = sorted(range(10), key=lambda i: -weights[b, i])
        top, rest = sorted(ranked[:keep - 1]), ranked[keep - 1:]
        assert torch.equal(tokens[b, 0], x[b, 0])
        assert torch.equal(tokens[b, 1:keep], x[b, 1:][top])
        torch.testing.assert_close(tokens[b, keep], sum(weights[b, i] * x[b, 1 + i] for i in rest))
        back = history.restore(tokens)[b]
        assert torch.equal(back[0], x[b, 0]) and torch.equal(back[1:][top], x[b, 1:][top])
        assert torch.equal(back[1:][rest], tokens[b, keep].expand(len(rest), -1))
        assert history.sizes[b].tolist() == [1.] * keep + [len(rest)]


def test_nothing_to_leave_is_no_change():
    x = torch.randn(2, 5, 3)
    history = History.whole(x)
    tokens, after = EViT(r=0)(x, attention_of(5), history, 4, True)
    assert tokens is x and after is history


def test_gradients_reach_tokens_and_attention():
    x, attention = torch.randn(2, 8, 3, requires_grad=True), Attention(*torch.randn(2, 2, 3, 8, 4))
    attention.keys.requires_grad_()
    tokens, _ = EViT(r=4)(x, attention, History.whole(x), 3, True)
    (tokens * torch.randn_like(tokens)).sum().backward()
    assert (x.grad != 0).all() and attention.keys.grad.any()
