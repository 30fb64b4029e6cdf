import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmltm.merging.grids import (
    TOLERANCE,
    axis_overlap,
    check_ratios,
    local_gap,
    local_overlap,
    resample_mask,
    separate_schedule,
    share_for_mean,
    tile_axis,
    window_schedule,
)

side = st.integers(1, 16)


@pytest.mark.parametrize('rounding, expected', [
    ('nearest', [(7, 7), (6, 6), (5, 5), (4, 4), (3, 3)]),
    ('area', [(7, 7), (5, 7), (4, 6), (4, 4), (4, 3)]),
    # The paper's ceil stalls: ceil(6 sqrt(0.7)) = 6.
    ('ceil', [(7, 7), (6, 6), (6, 6), (6, 6), (6, 6)]),
])
def test_window_schedule_at_the_papers_ratio(rounding, expected):
    assert window_schedule((7, 7), [0.7] * 4, rounding) == expected


@pytest.mark.parametrize('rounding', ['nearest', 'area', 'ceil'])
@given(grid=st.tuples(side, side), ratios=st.lists(st.floats(0.01, 1.0), max_size=6))
def test_schedule_never_grows_nor_vanishes(rounding, grid, ratios):
    grids = window_schedule(grid, ratios, rounding)
    assert len(grids) == len(ratios) + 1
    for (h, w), (new_h, new_w) in zip(grids, grids[1:]):
        assert 1 <= new_h <= h and 1 <= new_w <= w
    assert window_schedule(grid, [1.0] * 3, rounding) == [grid] * 4


def shares_and_tokens(grids):
    """Share of its own tokens that every merge keeps, and how many they are."""
    tokens = [math.prod(grid) for grid in grids]
    return [after / before for before, after in zip(tokens, tokens[1:])], tokens[1:]


@given(window=st.tuples(*[st.integers(4, 14)] * 2), ratios=st.lists(st.floats(0.3, 0.9), min_size=1, max_size=12))
def test_area_rounding_keeps_ratios_where_whole_sides_can(window, ratios):
    grids, wanted = window_schedule(window, ratios), math.prod(window)
    for before, after, ratio in zip(grids, grids[1:], ratios):
        wanted *= ratio

        def off(grid, before=before, ratio=ratio, wanted=wanted):
            return abs(math.prod(grid) / math.prod(before) - ratio), abs(math.prod(grid) / max(1, wanted) - 1)
        possible = any(max(off((h, w))) <= TOLERANCE for h in range(1, before[0] + 1) for w in range(1, before[1] + 1))
        assert max(off(after)) <= TOLERANCE or not possible


@given(side=st.integers(4, 14), ratio=st.floats(0.3, 0.8), depth=st.integers(1, 12))
def test_area_rounding_is_near_as_long_as_there_are_tokens(side, ratio, depth):
    # Of fewer than 16 tokens one is more than 0.06, and the numbers with two factors as small as sides are sparse.
    shares, tokens = shares_and_tokens(window_schedule((side, side), [ratio] * depth))
    for index, (share, kept) in enumerate(zip(shares, tokens)):
        wanted = side**2 * ratio**(index + 1)
        share_bound, total_bound = (0.051, 0.065) if wanted >= 48 else (0.11, 0.125)
        assert wanted < 16 or abs(share - ratio) <= share_bound and abs(kept / wanted - 1) <= total_bound


@pytest.mark.parametrize('ratio', [0.6, 0.7, 0.8])
def test_one_merge_changes_the_shares_of_its_neighbours_little(ratio):
    shares, _ = shares_and_tokens(window_schedule((14, 14), [ratio] * 4))
    changed, _ = shares_and_tokens(window_schedule((14, 14), [ratio, 0.9, ratio, ratio]))
    assert changed[0] == shares[0] and abs(changed[1] - 0.9) <= 0.05
    assert all(abs(share - ratio) <= 0.05 for share in changed[2:])
    alone, _ = shares_and_tokens(window_schedule((14, 14), [1, ratio, 1, 1]))
    assert alone == [1, pytest.approx(ratio, abs=0.05), 1, 1]


@pytest.mark.parametrize('ratio, message', [
    (0, r'\(0, 1\].*got 0'), (1.2, r'\(0, 1\].*1.2'), (-0.5, '-0.5'), (float('nan'), 'nan'), ('0.7', "'0.7'"),
    ([0.7, 0.7], '2 values for 3'), ([0.7, 0.7, 2], 'got 2'), (True, 'True')])
def test_bad_ratios_are_named(ratio, message):
    with pytest.raises(ValueError, match=message):
        check_ratios(ratio, 3)


@given(length=st.integers(1, 200), source=side, data=st.data())
def test_tiles_cover_the_axis(length, source, data):
    target = data.draw(st.integers(1, source))
    tiles = tile_axis(length, source, target)
    position = 0
    for tile in tiles:
        assert tile.start == position and 1 <= tile.merged <= tile.size
        position += tile.size * tile.repeat
    assert position == length


@given(length=st.integers(1, 200), longer=st.integers(0, 40))
def test_a_longer_axis_keeps_the_windows_before_its_end(length, longer):
    def windows(tiles):
        return [tile.size for tile in tiles for _ in range(tile.repeat)]
    before, after = windows(tile_axis(length, 7, 6))[:-1], windows(tile_axis(length + longer, 7, 6))
    assert after[:len(before)] == before


@given(length=st.integers(1, 200), source=side, data=st.data())
def test_a_remainder_keeps_no_larger_share_than_a_window(length, source, data):
    target = data.draw(st.integers(1, source))
    last = tile_axis(length, source, target)[-1]
    if last.size < source <= length:
        assert last.merged <= last.size * target / source
    elif last.size != source:  # a small axis, or one whose short remainder has joined a window
        assert abs(last.merged - last.size * target / source) <= 0.5 or last.merged == 1


@pytest.mark.parametrize('length, merged', [(4, 3), (7, 6), (8, 7), (10, 6 + 2), (14, 12), (20, 12 + 5), (22, 12 + 7)])
def test_what_remains_of_an_axis(length, merged):
    assert sum(tile.repeat * tile.merged for tile in tile_axis(length, 7, 6)) == merged


@given(source=side, data=st.data())
def test_overlap_partitions_cells(source, data):
    target = data.draw(st.integers(1, source))
    overlap = axis_overlap(source, target)
    assert (overlap >= 0).all()
    torch.testing.assert_close(overlap.sum(1), torch.ones(source, dtype=torch.float64))
    torch.testing.assert_close(overlap.sum(0), torch.full((target, ), source / target, dtype=torch.float64))
    gap = local_gap((source, source), (target, target))
    assert ((gap > 0) <= (local_overlap((source, source), (target, target)) < 1e-9)).all()


def test_resampling_keeps_constants_ramps_and_identity():
    mask = torch.rand(49, 36)
    assert resample_mask(mask, (7, 7), (6, 6), (7, 7), (6, 6)) is mask
    constant = resample_mask(torch.full((49, 36), 2.5), (7, 7), (6, 6), (4, 5), (3, 3))
    torch.testing.assert_close(constant, torch.full((20, 9), 2.5))
    # A ramp along source rows stays a ramp along source rows, and is blind to everything else.
    ramp = torch.arange(8.).repeat_interleave(8)[:, None].expand(64, 16)
    out = resample_mask(ramp, (8, 8), (4, 4), (4, 8), (2, 2)).reshape(4, 8, 4)
    torch.testing.assert_close(out, torch.tensor([0.5, 2.5, 4.5, 6.5])[:, None, None].expand(4, 8, 4))


@given(side=st.integers(4, 14), ratio=st.floats(0.3, 0.9), depth=st.integers(1, 12))
def test_separate_merges_keep_the_ratio(side, ratio, depth):
    shares = [math.prod(grid) / side**2 for grid in separate_schedule((side, side), [ratio] * depth)]
    attainable = [h * w / side**2 - ratio for h in range(1, side + 1) for w in range(1, side + 1)]
    nearest = min(map(abs, attainable))
    assert max(abs(share - ratio) for share in shares) <= max(TOLERANCE, nearest) + 1e-9
    assert abs(sum(shares) / depth - ratio) <= max(TOLERANCE / depth, nearest) + 1e-9


def test_separate_merges_take_turns():
    assert separate_schedule((7, 7), [0.7] * 3) == [(5, 7), (7, 5), (5, 7)]


def test_separate_merges_leave_vanilla_blocks_alone():
    grids = separate_schedule((7, 7), [0.7, 1.0] * 6)
    assert grids[1::2] == [(7, 7)] * 6 and sum(h * w for h, w in grids[::2]) == 6 * 35
    assert separate_schedule((7, 7), [0.7] * 3, 'nearest') == [(6, 6)] * 3


@pytest.mark.parametrize('mean', [0.2, 0.4, 0.7, 0.95, 1.0])
@pytest.mark.parametrize('depth', [1, 2, 12])
def test_share_for_mean(mean, depth):
    share = share_for_mean((7, 7), mean, depth)
    grids = window_schedule((7, 7), [share] * (depth - 1) + [1.0])[1:]
    assert 0 < share <= 1 and (mean < 1 or grids == [(7, 7)] * depth)
    if depth == 12:
        assert sum(h * w for h, w in grids) / (49 * depth) == pytest.approx(mean, abs=0.015)
