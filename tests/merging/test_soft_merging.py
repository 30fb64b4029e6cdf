import pytest
import torch

from mmltm.merging.grids import map_to_tokens, tokens_to_map
from mmltm.merging.soft import WINDOWS, SoftMerging

SIZES = [(4, 6), (5, 7), (1, 1), (3, 2)]


def explicit(merger, x, update):
    """The paper's equations, window by window, for one image: merged tokens and, from their update, inflation."""
    h, w = merger.source
    _, height, width = x.shape
    merged = x.new_zeros(x.shape[0], -(-height // h), -(-width // w))
    inflated = torch.zeros_like(x)
    for i in range(merged.shape[1]):
        for j in range(merged.shape[2]):
            rows, cols = range(i * h, min(i * h + h, height)), range(j * w, min(j * w + w, width))
            cells = [(y, z) for y in rows for z in cols]
            tokens = torch.stack([x[:, y, z] for y, z in cells])
            logits = merger.query(tokens) @ merger.key(tokens).T / (x.shape[0] // 2)**0.5
            scores = logits.softmax(1).mean(0)
            merged[:, i, j] = (scores[:, None] * tokens).sum(0) / len(cells)
            for score, (y, z) in zip(scores, cells):
                inflated[:, y, z] = x[:, y, z] + update[:, i, j] * score
    return merged, inflated


@torch.no_grad()
@pytest.mark.parametrize('p', WINDOWS)
@pytest.mark.parametrize('size', SIZES)
def test_equations(p, size):
    torch.manual_seed(0)
    merger = SoftMerging(WINDOWS[p], (1, 1), 8).double()
    x = torch.randn(2, 8, *size, dtype=torch.float64)
    operator, carry = merger(x)
    assert carry is None
    merged = operator.merge(x)
    assert merged.shape[-2:] == operator.merged_grid and operator.grid == size
    update = torch.randn_like(merged)
    restored = operator.restore(x, merged, update)
    for b in range(2):
        expected = explicit(merger, x[b], update[b])
        torch.testing.assert_close(merged[b], expected[0])
        torch.testing.assert_close(restored[b], expected[1])


def test_scores_are_shares():
    operator, _ = SoftMerging((2, 2), (1, 1), 8)(torch.randn(3, 8, 6, 4))
    sums = torch.nn.functional.avg_pool2d(operator.scores, 2) * 4
    torch.testing.assert_close(sums, torch.ones_like(sums))


def test_no_gradient_passes_the_scores_on_the_way_back():
    merger, x = SoftMerging((1, 2), (1, 1), 8), torch.randn(2, 8, 4, 4)
    operator, _ = merger(x)
    update = torch.randn(2, 8, 4, 2, requires_grad=True)
    operator.unmerge(update).sum().backward()
    assert update.grad.any() and all(parameter.grad is None for parameter in merger.parameters())
    (operator.merge(x) * torch.randn(2, 8, 4, 2)).sum().backward()
    assert all((parameter.grad != 0).any() for parameter in merger.parameters())


@torch.no_grad()
def test_groups_and_layouts():
    """Groups of an image share its scores, of all their channels; sequences and maps are the same tokens."""
    merger = SoftMerging((2, 2), (1, 1), 3 * 4)
    groups = torch.randn(2, 3, 4, 5, 6)
    operator, _ = merger(groups)
    torch.testing.assert_close(operator.scores, merger(groups.flatten(1, 2))[0].scores)
    merged = operator.merge(groups)
    torch.testing.assert_close(operator.merge(groups.flatten(0, 1)), merged.flatten(0, 1))
    tokens = map_to_tokens(groups.flatten(0, 1)).contiguous()
    view = tokens_to_map(tokens, (5, 6))
    torch.testing.assert_close(operator.merge(view), merged.flatten(0, 1))
    detour = operator.detour(tokens, torch.tanh)
    torch.testing.assert_close(tokens_to_map(detour, (5, 6)), operator.unmerge(merged.tanh()).flatten(0, 1))
