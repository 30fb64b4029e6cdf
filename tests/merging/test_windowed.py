import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmltm.merging.grids import local_overlap, map_to_tokens, tile_axis, tokens_to_map
from mmltm.merging.masks import least_squares_inverse, normalize_mask
from mmltm.merging.windowed import WindowedMerge

SIZES = [(7, 7), (14, 14), (8, 9), (4, 4), (1, 1), (3, 20), (15, 7), (50, 84)]


def random_mask(source, target, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (source[0] * source[1], target[0] * target[1])
    return normalize_mask(torch.ones(shape), torch.randn(shape, generator=generator))


def matrices(source, target):
    mask = random_mask(source, target, seed=sum(source) * 31 + sum(target))
    return mask, least_squares_inverse(mask)


def test_normalized_columns_on_the_support_only():
    support = torch.zeros(9, 4)
    support[torch.arange(4) * 2, torch.arange(4)] = 1
    support[1, :] = 1
    # Scores that overflow float32 when exponentiated, and larger ones where the support forbids them.
    scores = torch.full((9, 4), 500.)
    scores[1] = 499.
    scores[0, 1:] = 1e4
    mask = normalize_mask(support, scores)
    torch.testing.assert_close(mask.sum(0), torch.ones(4))
    assert (mask[support == 0] == 0).all()
    torch.testing.assert_close(mask[1], torch.full((4, ), 1 / (1 + torch.e)))


def test_support_gets_gradient_everywhere():
    support = (torch.rand(12, 5) > 0.5).float()
    support[0] = 1
    support.requires_grad_()
    (normalize_mask(support, torch.randn(12, 5)) * torch.randn(12, 5)).sum().backward()
    assert support.grad.isfinite().all() and (support.grad != 0).all()


@settings(max_examples=30)
@given(n=st.integers(1, 20), data=st.data())
def test_least_squares_gives_merged_tokens_back(n, data):
    p = data.draw(st.integers(1, n))
    mask = normalize_mask(torch.eye(n, p, dtype=torch.float64) + 0.05, torch.zeros(n, p, dtype=torch.float64))
    inverse = least_squares_inverse(mask, eps=1e-12)
    torch.testing.assert_close(mask.mT @ inverse, torch.eye(p, dtype=torch.float64), atol=1e-8, rtol=0)


def test_equal_columns_stay_bounded():
    mask = torch.full((6, 3), 1 / 6)
    inverse = least_squares_inverse(mask)
    assert inverse.isfinite().all() and torch.linalg.matrix_norm(inverse, 2) <= 0.5 / 1e-3**0.5 + 1e-3


@pytest.mark.parametrize('size', SIZES)
def test_windows_equal_an_explicit_loop(size):
    operator = WindowedMerge(size, (7, 7), (6, 5), matrices)
    x = torch.randn(2, 3, *size)
    expected = torch.full((2, 3, *operator.merged_grid), float('nan'))
    top = 0
    for row in tile_axis(size[0], 7, 6):
        for i in range(row.repeat):
            left = 0
            for col in tile_axis(size[1], 7, 5):
                mask, _ = matrices((row.size, col.size), (row.merged, col.merged))
                for j in range(col.repeat):
                    y0, x0 = row.start + i * row.size, col.start + j * col.size
                    tile = x[:, :, y0:y0 + row.size, x0:x0 + col.size].flatten(2)
                    expected[:, :, top:top + row.merged, left:left + col.merged] = torch.einsum(
                        'bcn,np->bcp', tile, mask).reshape(2, 3, row.merged, col.merged)
                    left += col.merged
            top += row.merged
    torch.testing.assert_close(operator.merge(x), expected)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('by_window', [False, True])
def test_layouts_agree(size, by_window):
    """Tokens, (B, N, C), channels-last maps and groups of maps are merged as plain maps are, and stay as they are."""
    operator = WindowedMerge(size, (7, 7), (6, 5), matrices)
    if by_window:  # of two images, their way back the same for all
        operator = operator.with_matrices([
            (torch.stack([region.merge.roll(shift, -2) for shift in range(2 * region.rows.repeat * region.cols.repeat)])
             .unflatten(0, (2, -1)), region.unmerge) for region in operator.regions])
    groups = torch.randn(2, 3, size[0] * size[1], 4)
    tokens = groups.flatten(0, 1)
    maps = tokens_to_map(groups, size)
    assert maps.data_ptr() == groups.data_ptr()
    expected = operator.merge(maps.contiguous())
    assert expected.is_contiguous()
    restored = operator.unmerge(expected)
    for x in (maps, tokens_to_map(tokens, size)):
        merged = operator.merge(x)
        assert merged.stride(-3) == 1 and map_to_tokens(merged).data_ptr() == merged.data_ptr()
        torch.testing.assert_close(merged.reshape(expected.shape), expected)
        torch.testing.assert_close(operator.unmerge(merged).reshape(maps.shape), restored)
    detour = operator.detour(tokens, lambda part: 2 * part)
    torch.testing.assert_close(detour, 2 * map_to_tokens(restored).flatten(0, 1))


@pytest.mark.parametrize('size', SIZES)
def test_unmerge_is_the_adjoint_shape_and_restores(size):
    operator = WindowedMerge(size, (7, 7), (6, 6), matrices)
    x = torch.randn(2, 4, *size)
    merged = operator.merge(x)
    assert merged.shape[2:] == operator.merged_grid and operator.unmerge(merged).shape == x.shape
    # Nothing happened in merged space: all tokens come back, to the bit.
    assert torch.equal(operator.restore(x, merged, merged), x)
    # Something happened: merging the restored tokens gives it back, up to the ridge.
    update = merged + torch.randn_like(merged)
    exact = WindowedMerge(size, (7, 7), (6, 6), lambda s, t: (
        matrices(s, t)[0], least_squares_inverse(matrices(s, t)[0].double(), 1e-10).float()))
    torch.testing.assert_close(exact.merge(exact.restore(x, merged, update)), update, atol=2e-2, rtol=2e-2)


def test_gradients_reach_map_and_matrices():
    mask = random_mask((7, 7), (6, 6)).requires_grad_()
    x = torch.randn(1, 2, 14, 7, requires_grad=True)
    operator = WindowedMerge((14, 7), (7, 7), (6, 6), lambda s, t: (mask, least_squares_inverse(mask)))
    merged = operator.merge(x)
    operator.restore(x, merged, merged * 2).square().sum().backward()
    assert (x.grad != 0).all() and (mask.grad != 0).any() and mask.grad.isfinite().all()


def test_area_scores_lose_less_of_a_photograph_than_a_binary_mask(shared):
    """The measurement behind the default of ``prior``: variance of 7 x 7 windows lost by 7 x 7 -> 6 x 6 -> 7 x 7."""
    import cv2
    files = sorted((shared / 'data/imagenette128/val').glob('*/*.jpg'))[::200]
    maps = torch.stack([torch.from_numpy(cv2.imread(str(file))).float().permute(2, 0, 1) for file in files])
    windows = torch.nn.functional.unfold(maps[:, :, :126, :126].flatten(0, 1)[:, None], 7, stride=7).mT
    windows = (windows - windows.mean(-1, keepdim=True)).double()
    overlap = local_overlap((7, 7), (6, 6))
    lost, gain = {}, {}
    for name, weights in dict(area=overlap, uniform=(overlap > 1e-9).double()).items():
        mask = weights / weights.sum(0)
        inverse = least_squares_inverse(mask, 1e-6)
        lost[name] = ((windows @ mask @ inverse.mT - windows).square().sum() / windows.square().sum()).item()
        gain[name] = torch.linalg.matrix_norm(inverse, 2).item()
    assert lost['area'] < 0.6 * lost['uniform']
    assert gain['area'] < 5 < 15 < gain['uniform']


@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize('size', SIZES)
def test_collapsed_is_the_same_operator(size, channels_last):
    operator = WindowedMerge(size, (7, 7), (6, 6), matrices)
    x = torch.randn(2, 3, *size)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    merged = operator.merge(x)
    update = merged.tanh()
    restored = operator.restore(x, merged, update)
    collapsed = operator.collapse(limit=110)
    assert bool(collapsed.bands) == (size not in ((14, 14), (50, 84)))
    torch.testing.assert_close(collapsed.merge(x), merged)
    torch.testing.assert_close(collapsed.restore(x, merged, update), restored)


def test_no_more_products_and_copies_than_kinds_of_row():
    """What collapsing is for: a row of windows is a matrix product on the map as it lies in memory."""
    for size, products, copies in (((7, 7), 1, 0), ((20, 20), 2, 1)):
        operator = WindowedMerge(size, (7, 7), (6, 6), matrices).collapse()
        x = torch.randn(2, 3, *size)
        with torch.profiler.profile() as profile:
            operator.merge(x)
        calls = {event.key: event.count for event in profile.key_averages()}
        assert calls['aten::mm'] == products and calls.get('aten::copy_', 0) == copies
