"""CubistMerge against cases by hand, and against plain loops over pairs of neighbours."""

import pytest
import torch

from mmltm.merging import AvgPool, CubistMerge
from mmltm.merging.cubist import largest_magnitudes, neighbour_runs
from mmltm.merging.grids import map_to_tokens, tokens_to_map


def test_lines_are_parted_between_the_least_similar():
    """Angles of the tokens in degrees: 0, 10, 80, 85, 180; gaps of 10, 70, 5 and 95."""
    angles = torch.tensor([0., 10., 80., 85., 180.]).deg2rad()
    line = torch.stack((angles.cos(), angles.sin()))[None, :, None] * torch.tensor([1., 9., 2., .1, 3.])
    for count, expected in ((1, [0, 0, 0, 0, 0]), (2, [0, 0, 0, 0, 1]), (3, [0, 0, 1, 1, 2]), (4, [0, 1, 2, 2, 3]),
                            (5, [0, 1, 2, 3, 4])):
        assert neighbour_runs(line, count).tolist() == [[expected]]


def test_the_largest_magnitude_of_every_channel():
    x = torch.tensor([[[1., -3., 2., 0.], [-1., -2., 4., -5.]]])
    merged = largest_magnitudes(x, torch.tensor([[0, 0, 0, 1]]), 2)
    assert merged.tolist() == [[[-3., 0.], [4., -5.]]]


def by_loops(x, height, width):
    """Merged map (C, H', W') and where each token goes, by merging the most similar neighbours one pair after another.

    Similarities are those before any token of the line merges.
    """
    def runs(line, count):
        similarity = torch.nn.functional.cosine_similarity(line[1:], line[:-1], dim=1)
        groups = [[i] for i in range(len(line))]
        for pair in similarity.argsort(descending=True)[:len(line) - count].tolist():
            first, = (group for group in groups if pair in group)
            second, = (group for group in groups if pair + 1 in group)
            groups[groups.index(first):groups.index(second) + 1] = [first + second]
        return groups

    def largest(tokens):
        return tokens.gather(0, tokens.abs().argmax(0)[None])[0]

    x = x.permute(1, 2, 0)
    rows = [runs(row, width) for row in x]
    narrow = torch.stack([torch.stack([largest(row[group]) for group in groups]) for row, groups in zip(x, rows)])
    cols = [runs(narrow[:, j], height) for j in range(width)]
    merged = torch.stack([torch.stack([largest(narrow[cols[j][i], j]) for j in range(width)]) for i in range(height)])
    places = {(row, cell): (i, j) for j in range(width) for i, group in enumerate(cols[j]) for row in group
              for cell in rows[row][j]}
    return merged.permute(2, 0, 1), places


@pytest.mark.parametrize('size', [(7, 7), (14, 10), (5, 9), (1, 1), (1, 8), (21, 3)])
def test_against_loops(size):
    torch.manual_seed(0)
    merger, x = CubistMerge((7, 7), (4, 5), 6), torch.randn(2, 6, *size, dtype=torch.float64)
    operator, carry = merger(x)
    assert carry is None and operator.grid == size
    assert operator.merged_grid == AvgPool((7, 7), (4, 5), 6)(x)[0].merged_grid
    merged = operator.merge(x)
    update = torch.randn_like(merged)
    restored = operator.restore(x, merged, update)
    for b in range(2):
        expected, places = by_loops(x[b], *operator.merged_grid)
        assert torch.equal(merged[b], expected) and len(places) == size[0] * size[1]
        for (row, cell), (i, j) in places.items():
            gained = x[b, :, row, cell] + update[b, :, i, j] - merged[b, :, i, j]
            torch.testing.assert_close(restored[b, :, row, cell], gained)


def test_equal_tokens_merge_the_same_way_each_time():
    x = torch.ones(1, 4, 6, 6)
    operator, again = (CubistMerge((6, 6), (3, 3), 4)(x)[0] for _ in range(2))
    assert torch.equal(operator.places, again.places) and operator.places.unique().tolist() == [*range(9)]
    assert torch.equal(operator.merge(x), torch.ones(1, 4, 3, 3))


def test_gradients_go_to_the_tokens_that_are_taken():
    torch.manual_seed(0)
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    operator, _ = CubistMerge((4, 4), (2, 3), 2)(x)
    assert torch.autograd.gradcheck(operator.merge, x)
    assert torch.autograd.gradcheck(lambda x: operator.restore(x, operator.merge(x), operator.merge(x).tanh()), x)
    operator.merge(x).sum().backward()
    assert x.grad.sum() == 12 and set(x.grad.unique().tolist()) == {0., 1.}


@torch.no_grad()
def test_groups_layouts_and_precision():
    """Groups of an image are compared and merged together; sequences and maps are the same tokens."""
    groups = torch.randn(2, 3, 4, 5, 6)
    merger = CubistMerge((5, 6), (3, 4), 3 * 4, whole=True)
    operator, _ = merger(groups)
    assert torch.equal(operator.places, merger(groups.flatten(1, 2))[0].places)
    merged = operator.merge(groups)
    assert torch.equal(operator.merge(groups.flatten(0, 1)), merged.flatten(0, 1))
    assert torch.equal(operator.merge(groups.flatten(1, 2)), merged.flatten(1, 2))
    tokens = map_to_tokens(groups.flatten(0, 1)).contiguous()
    assert torch.equal(operator.merge(tokens_to_map(tokens, (5, 6))), merged.flatten(0, 1))
    detour = operator.detour(tokens, torch.tanh)
    assert torch.equal(tokens_to_map(detour, (5, 6)), operator.unmerge(merged.tanh()).flatten(0, 1))
    half = groups.bfloat16()
    assert merger(half)[0].merge(half).dtype == torch.bfloat16
