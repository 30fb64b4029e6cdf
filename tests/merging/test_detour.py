"""Detours of mergers that keep no grid around single layers."""

import torch
from torch import nn

from mmltm.merging import ToMe
from mmltm.merging.detour import Detour


def test_all_layers_merge_the_pairs_that_the_first_has_found():
    """Of a row a, b, c, d the first and the second are alike, and again the third and the fourth less so."""
    x = torch.tensor([[1., 0.], [1., 0.1], [0., 1.], [-0.5, 1.]]).T.reshape(1, 2, 2, 2)
    operator, _ = Detour(ToMe(source=(2, 2), target=(1, 3)), layers=True)(x)
    tokens = x.flatten(2).mT
    merged = torch.tensor([[1., 0.05], [1., 0.05], [0., 1.], [-0.5, 1.]])
    wide = operator.detour(tokens.contiguous(), lambda kept: torch.cat((kept, 2 * kept), 2))
    torch.testing.assert_close(wide[0], torch.cat((merged, 2 * merged), 1))
    # Here the last two are equal, yet the first two merge.
    other = torch.tensor([[[0., 2.], [4., 0.], [1., 1.], [1., 1.]]])
    torch.testing.assert_close(operator.detour(other, nn.Identity())[0],
                               torch.tensor([[2., 1.], [2., 1.], [1., 1.], [1., 1.]]))


def test_what_need_not_merge_passes():
    operator, _ = Detour(ToMe(source=(2, 2), target=(2, 2)), layers=True)(torch.rand(1, 3, 4, 4))
    tokens = torch.rand(1, 16, 3)
    assert torch.equal(operator.detour(tokens, torch.neg), -tokens)
