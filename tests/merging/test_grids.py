import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmltm.merging.grids import (
    axis_overlap,
    check_ratios,
    local_gap,
    local_overlap,
    resample_mask,
    separate_schedule,
    share_for_mean,
    shrink_grid,
    tile_axis,
    window_schedule,
)

side = st.integers(1, 16)


@pytest.mark.parametrize('rounding, expected', [
    ('nearest', [(7, 7), (6, 6), (5, 5), (4, 4), (3, 3)]),
    ('area', [(7, 7), (6, 6), (5, 5), (4, 4), (3, 4)]),
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


@given(grid=st.tuples(side, side), ratio=st.floats(0.01, 1.0))
def test_area_rounding_is_never_further_from_the_ratio(grid, ratio):
    def error(rounding):
        return abs(math.prod(shrink_grid(grid, ratio, rounding)) - ratio * math.prod(grid))
    assert error('area') <= min(error('nearest'), error('ceil')) + 1e-9


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
        position += tile.size * tile.count
    assert position == length


@given(length=st.integers(1, 200), longer=st.integers(0, 40))
def test_a_longer_axis_keeps_the_windows_before_its_end(length, longer):
    def windows(tiles):
        return [tile.size for tile in tiles for _ in range(tile.count)]
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
    assert sum(tile.count * tile.merged for tile in tile_axis(length, 7, 6)) == merged


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


@pytest.mark.parametrize('ratio', [0.02, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_separate_merges_keep_the_ratio_on_average(ratio):
    kept = [h * w / 49 for h, w in separate_schedule((7, 7), [ratio] * 24)]
    assert abs(sum(kept) / 24 - max(ratio, 1 / 49)) < 0.01 and max(kept) - min(kept) < 0.2


def test_separate_merges_leave_vanilla_blocks_alone():
    grids = separate_schedule((7, 7), [0.7, 1.0] * 6)
    assert grids[1::2] == [(7, 7)] * 6 and sum(h * w for h, w in grids[::2]) == pytest.approx(6 * 34.3, abs=4)
    assert separate_schedule((7, 7), [0.7] * 3, 'nearest') == [(6, 6)] * 3


@pytest.mark.parametrize('mean', [0.2, 0.4, 0.7, 0.95, 1.0])
@pytest.mark.parametrize('depth', [1, 2, 12])
def test_share_for_mean(mean, depth):
    share = share_for_mean((7, 7), mean, depth)
    grids = window_schedule((7, 7), [share] * (depth - 1) + [1.0], 'area')[1:]
    assert 0 < share <= 1 and (mean < 1 or grids == [(7, 7)] * depth)
    if depth == 12:
        assert sum(h * w for h, w in grids) / (49 * depth) == pytest.approx(mean, abs=0.015)
