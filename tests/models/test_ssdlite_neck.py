"""Levels of SSDLite: which map each is made from."""

import torch

from mmltm.models.necks import SSDLiteNeck


@torch.no_grad()
def test_levels():
    torch.manual_seed(0)
    neck = SSDLiteNeck((4, 6), (16, 8, 8, 6, 5)).eval()
    fine, last = torch.randn(2, 4, 20, 15), torch.randn(2, 6, 10, 8)
    levels = neck((fine, last))
    assert [tuple(level.shape[1:]) for level in levels] == [(16, 20, 15), (8, 10, 8), (8, 5, 4), (6, 3, 2), (5, 1, 1)]
    # Coarse levels come from the backbone's last map, not from its projection.
    neck.projections[1].conv.weight.zero_()
    other = neck((fine, last))
    assert not torch.equal(other[1], levels[1]) and torch.equal(other[2], levels[2])
    pooled = levels[3].mean((2, 3)) @ neck.pooled.conv.weight[:, :, 0, 0].T + neck.pooled.conv.bias
    torch.testing.assert_close(levels[4][..., 0, 0], pooled.relu())
