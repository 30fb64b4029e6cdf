import pytest
import torch

from mmltm.merging import AvgPool
from mmltm.models.backbones.common import bring_back


@pytest.fixture
def merges():
    torch.manual_seed(0)
    first, second = AvgPool((7, 7), (6, 6), embed_dims=4), AvgPool((6, 6), (4, 4), embed_dims=4)
    x = torch.randn(2, 4, 14, 14)
    merges = []
    for merger in (first, second):
        operator, _ = merger(x)
        merged = operator.merge(x)
        merges.append((operator, x, merged))
        x = merged
    return merges


def test_stage_gives_back_what_nothing_was_added_to(merges):
    full, merged = merges[0][1], merges[-1][2]
    assert torch.allclose(bring_back(merged, merges, 'stage'), full, atol=1e-5)


def test_unmerge_knows_merged_tokens_alone(merges):
    blind = [(operator, torch.full_like(full, torch.nan), torch.full_like(merged, torch.nan))
             for operator, full, merged in merges]
    back = bring_back(merges[-1][2], blind, 'unmerge')
    assert back.shape == merges[0][1].shape and back.isfinite().all()
    assert not torch.allclose(back, merges[0][1], atol=0.1)
    for operator, _, _ in merges:  # merging what has been brought back gives the merged tokens
        back = operator.merge(back)
    assert torch.allclose(back, merges[-1][2], atol=0.1)
