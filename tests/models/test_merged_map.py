import torch
from torch import nn

from mmltm.merging import AvgPool
from mmltm.models.backbones.common import MergedMap


def test_a_map_merges_twice_and_gives_back_what_nothing_was_added_to():
    torch.manual_seed(0)
    full, merged = torch.randn(2, 4, 14, 14), MergedMap(carry='given')
    x = merged.merge(nn.Identity(), full)
    for merger in (AvgPool((7, 7), (6, 6), embed_dims=4), AvgPool((6, 6), (4, 4), embed_dims=4)):
        x = merged.merge(merger, x)
    assert x.shape == (2, 4, 8, 8) and merged.carry == 'given' and len(merged.merges) == 2
    assert torch.allclose(merged.restore(x), full, atol=1e-5)
    gained = merged.restore(x + 1) - full
    assert torch.allclose(gained, torch.ones_like(gained), atol=0.02)


def test_nothing_happens_while_a_merger_is_switched_off():
    merger = AvgPool((7, 7), (6, 6), embed_dims=4)
    merger.active = False
    x, merged = torch.randn(1, 4, 7, 7), MergedMap()
    assert merged.merge(merger, x) is x and not merged.merges
