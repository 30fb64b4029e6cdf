"""Segmentors for ADE20K beside their vanilla twins."""

import pytest
import torch
from mmengine.config import Config

from mmltm.models.builder import build_model
from tests.conftest import ROOT

pytest.importorskip('mmseg')
TWINS = {'upernet_ltm_swin_t_160k_ade20k': 'upernet_swin_t_160k_ade20k',
         'deeplabv3_ltm_mobilevit_s_160k_ade20k': 'deeplabv3_mobilevit_s_160k_ade20k',
         'effvit_seg_ltm_b1_160k_ade20k': 'effvit_seg_b1_160k_ade20k'}


def read(name):
    return Config.fromfile(ROOT / 'configs' / f'{name}.py')


@pytest.mark.parametrize('name', TWINS)
def test_differs_from_its_twin_by_merging_alone(name):
    cfg, twin = read(name), read(TWINS[name])
    assert cfg.custom_hooks[0].type == 'mmltm.IBStatisticsHook' and not twin.get('custom_hooks')
    for part in (cfg, twin):
        for key in ('ratio', 'merger', 'type'):
            part.model.backbone.pop(key, None)
        part.pop('custom_hooks', None)
    assert cfg._cfg_dict == twin._cfg_dict
    # Data of one's own may have a class zero: the data set alone says so.
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert [step.reduce_zero_label for step in loader.dataset.pipeline if step.type == 'LoadAnnotations'] == [None]


@pytest.mark.parametrize('name', TWINS)
def test_merges_and_keeps_strides(name):
    for config in (name, TWINS[name]):
        cfg = read(config)
        cfg.model.backbone.pretrained = None
        model = build_model(cfg.model, cfg.default_scope)
        with torch.no_grad():
            logits = model(torch.zeros(1, 3, 64, 64), mode='tensor')
        stride = 4 if 'upernet' in name else 8 if 'effvit' in name else 16
        assert logits.shape == (1, 150, 64 // stride, 64 // stride)
