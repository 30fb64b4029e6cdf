import pytest
import torch
from mmpretrain.registry import MODELS

from mmltm.models.backbones import ConvStem


@pytest.mark.parametrize('stride', [2, 8, (16, 16)])
def test_a_token_a_patch(stride):
    stem = ConvStem(3, 32, kernel_size=stride, stride=stride)
    side = stride if isinstance(stride, int) else stride[0]
    assert stem(torch.randn(2, 3, 48, 32)).shape == (2, 32, 48 // side, 32 // side)
    assert [layer.out_channels for layer in stem if isinstance(layer, torch.nn.Conv2d)][-2:] == [32, 32]


@pytest.mark.parametrize('kind', [dict(type='VisionTransformer'), dict(type='mmltm.LTMVisionTransformer', ratio=0.7)])
def test_in_place_of_a_patch_embedding(kind):
    vit = MODELS.build(dict(
        arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=32), img_size=64, patch_size=16,
        patch_cfg=dict(conv_type='mmltm.ConvStem'), **kind))
    assert isinstance(vit.patch_embed.projection, ConvStem)
    assert vit(torch.randn(2, 3, 64, 64))[0].shape == (2, 32)


@pytest.mark.parametrize('stride, channels, message', [
    (1, 32, 'stride must be a power of two from 2 on, got 1'), (12, 32, 'power of two from 2 on, got 12'),
    (16, 36, 'out_channels must be a multiple of 8 for stride 16, got 36')])
def test_errors(stride, channels, message):
    with pytest.raises(ValueError, match=message):
        ConvStem(3, channels, stride=stride)
