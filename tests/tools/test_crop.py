import runpy
from pathlib import Path

import pytest
import torch

from mmltm.merging import AvgPool

Crop = runpy.run_path(str(Path(__file__).parents[2] / 'tools/analysis_tools/benchmark.py'))['Crop']
WINDOW = dict(source=(7, 7), target=(5, 6), embed_dims=3)


@pytest.mark.parametrize('size', [(14, 14), (9, 12), (3, 2)])
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_shapes_are_those_of_a_merger(size, layout):
    x = torch.randn(2, 3, *size).contiguous(memory_format=layout)
    (mine, carry), (theirs, _) = Crop(**WINDOW)(x), AvgPool(**WINDOW)(x)
    merged = mine.merge(x)
    assert carry is None and mine.merged_grid == theirs.merged_grid and merged.shape == theirs.merge(x).shape
    assert torch.equal(mine.merge(mine.unmerge(merged)), merged) and mine.unmerge(merged).shape == x.shape
    assert torch.equal(mine.restore(x, merged, merged), x)
    assert torch.equal(mine.merge(mine.restore(x, merged, merged + 1)), merged + 1)
    tokens = x.flatten(2).mT
    calls = []
    detour = mine.detour(tokens, lambda corner: calls.append(corner.shape) or corner)
    assert calls == [(2, merged[0, 0].numel(), 3)]  # the function sees merged tokens alone
    assert torch.equal(detour.mT.unflatten(2, size), mine.unmerge(merged))
