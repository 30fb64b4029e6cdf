"""The neck of EfficientViT-Seg: shapes, gradients, and the size that its authors give."""

import pytest
import torch

from mmltm.models import EfficientViT, EfficientViTSegNeck


@pytest.mark.parametrize('size', [(8, 8), (9, 6)])
def test_one_map_of_the_finest_size(size):
    neck = EfficientViTSegNeck((16, 32, 64), width=8, depth=2)
    height, width = size
    feats = [torch.randn(2, channels, -(-height // step), -(-width // step))
             for channels, step in ((16, 1), (32, 2), (64, 4))]
    fused, = neck(feats)
    assert fused.shape == (2, 8, *size)
    fused.square().sum().backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in neck.parameters())


def test_parameters_of_seg_b1():
    """4.8 M for ADE20K, as the paper says (its Table 4), with 150 classes behind the neck."""
    parts = EfficientViT('b1'), EfficientViTSegNeck((64, 128, 256)), torch.nn.Conv2d(64, 150, 1)
    count = sum(parameter.numel() for part in parts for parameter in part.parameters())
    assert count / 1e6 == pytest.approx(4.8, abs=0.05)


def test_maps_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match='in_channels are of 3 maps, but the backbone gives 2'):
        EfficientViTSegNeck((4, 4, 4), width=4)([torch.randn(1, 4, 2, 2)] * 2)
