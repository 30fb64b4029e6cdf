import pytest
import torch

from mmltm.models import SimpleFPN


@pytest.mark.parametrize('size', [(4, 6), (5, 3), (1, 1)])
def test_levels(size):
    neck = SimpleFPN(16, out_channels=8, num_outs=6)
    levels = neck((torch.randn(2, 16, 2, 2), torch.randn(2, 16, *size)))
    factors = (4, 2, 1, 1 / 2, 1 / 4, 1 / 8)
    expected = [tuple(-(-int(side * 8) // int(8 / factor)) for side in size) for factor in factors]
    assert [tuple(level.shape) for level in levels] == [(2, 8, *sides) for sides in expected]
    sum(level.square().sum() for level in levels).backward()
    assert all(parameter.grad.isfinite().all() for parameter in neck.parameters())


@torch.no_grad()
def test_a_pixel_stays_where_it_is():
    """What one cell of the map changes lies around that cell in every level."""
    neck = SimpleFPN(16, out_channels=8).double()
    x = torch.randn(1, 16, 16, 16, dtype=torch.double)
    y = x.clone()
    y[0, :, 8, 4] += 5
    for level, other in zip(neck(x), neck(y)):
        stride = 16 / level.shape[-1]
        rows, cols = (level != other).any(1)[0].nonzero().add(0.5).mul(stride).mean(0)
        assert abs(rows - 8.5) <= stride and abs(cols - 4.5) <= stride


@pytest.mark.parametrize('kwargs, message', [
    (dict(in_channels=18), 'multiple of 4'), (dict(in_channels=16, num_outs=3), 'at least 4')])
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SimpleFPN(**kwargs)
