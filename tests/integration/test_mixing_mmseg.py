"""Backbones with token merging in configs that ship with mmseg: nothing else is changed but what makes them small."""

import pytest
import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData

from mmltm.apis.config import load_config
from tests.integration.mixtures import assert_all_learn, pyramid

pytest.importorskip('mmseg')
from mmseg.registry import MODELS  # noqa: E402
from mmseg.structures import SegDataSample  # noqa: E402

CLASSES = 150
#: Backbone for each config, and what makes its head quick. Swin's norms of maps that no head reads would never learn.
SEGMENTORS = {
    'fcn/fcn_r50-d8_4xb4-80k_ade20k-512x512': ('EfficientViT', dict(channels=32)),
    'pspnet/pspnet_r50-d8_4xb4-80k_ade20k-512x512': ('MobileViT', dict(channels=32)),
    'deeplabv3/deeplabv3_r50-d8_4xb4-80k_ade20k-512x512': ('EfficientViT', dict(channels=32)),
    'deeplabv3plus/deeplabv3plus_r50-d8_4xb4-80k_ade20k-512x512': ('MobileViT', dict(channels=32)),
    'upernet/upernet_r50_4xb4-80k_ade20k-512x512': ('Swin', dict(channels=32)),
    'sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512': ('Swin', {}),
    'segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512': ('EfficientViT', dict(channels=32)),
    'mask2former/mask2former_r50_8xb2-160k_ade20k-512x512': ('MobileViT', dict(num_queries=10)),
}


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def mix(name):
    """The model config of mmseg's with another backbone."""
    backbone, options = SEGMENTORS[name]
    cfg = load_config(f'mmseg::{name}.py').model
    cfg.pretrained = None
    cfg.backbone, channels = pyramid(backbone, 4)
    head = cfg.decode_head
    head.update(options)
    if cfg.get('neck'):
        cfg.neck.in_channels = channels
    else:
        head.in_channels = channels if isinstance(head.in_channels, (list, tuple)) else channels[-1]
    if 'c1_in_channels' in head:
        head.update(c1_in_channels=channels[0], c1_channels=8)
    if 'pixel_decoder' in head:
        head.pixel_decoder.encoder.num_layers, head.transformer_decoder.num_layers = 1, 2
        head.train_cfg.num_points = 112
    if cfg.get('auxiliary_head'):
        cfg.auxiliary_head.update(in_channels=channels[2], channels=16)
    cfg.data_preprocessor.size = (64, 64)
    return cfg


@pytest.mark.parametrize('name', SEGMENTORS, ids=lambda name: name.partition('/')[0])
def test_mixing_in_a_segmentor(name):
    """Loss, backward pass and prediction on two random images."""
    torch.manual_seed(0)
    model = revert_sync_batchnorm(MODELS.build(mix(name)))
    model.init_weights()
    samples = []
    for _ in range(2):
        sample = SegDataSample(metainfo=dict(img_shape=(64, 64), ori_shape=(48, 64)))
        labels = torch.randint(0, CLASSES, (1, 8, 8))
        sample.gt_sem_seg = PixelData(data=labels.repeat_interleave(8, 1).repeat_interleave(8, 2))
        samples.append(sample)
    batch = dict(inputs=[torch.randint(0, 256, (3, 64, 64)) for _ in samples], data_samples=samples)
    losses, _ = model.parse_losses(model(**model.data_preprocessor(batch, True), mode='loss'))
    assert losses.isfinite()
    losses.backward()
    assert_all_learn(model.backbone)
    with torch.no_grad():
        results = model.eval()(**model.data_preprocessor(batch, False), mode='predict')
    assert [result.pred_sem_seg.data.shape for result in results] == [(1, 48, 64)] * 2
    assert all(int(result.pred_sem_seg.data.max()) < CLASSES for result in results)
