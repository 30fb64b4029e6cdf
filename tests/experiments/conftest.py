"""A folder of small images, a config that tunes masks on it, one that trains all, and a vanilla checkpoint."""

import cv2
import numpy as np
import pytest
import torch

from mmltm.apis.config import load_config
from mmltm.models.builder import build_model, vanilla_twin

CONFIG = """
_base_ = 'mmpretrain::_base_/default_runtime.py'
model = dict(
    type='ImageClassifier', backbone=dict(type='mmltm.LTMEfficientViT', arch='b0', merger=dict(
        type='LTM', ratio=0.7, num_classes=3, window=8)),
    neck=dict(type='GlobalAveragePooling'), head=dict(type='LinearClsHead', num_classes=3, in_channels=128))
data_preprocessor = dict(num_classes=3, mean=[127] * 3, std=[64] * 3)
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
data = dict(type='CustomDataset', data_root='data', pipeline=pipeline)
loader = dict(batch_size=4, num_workers=0)
train_dataloader = dict(
    dataset=dict(data_prefix='train', **data), sampler=dict(type='DefaultSampler', shuffle=True), **loader)
test_dataloader = dict(
    dataset=dict(data_prefix='val', **data), sampler=dict(type='DefaultSampler', shuffle=False), **loader)
test_evaluator = dict(type='Accuracy', topk=1)
test_cfg = dict()
train_cfg = dict(by_epoch=True, max_epochs=9)
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.05))
"""
TUNING = """
custom_hooks = [dict(type='mmltm.MaskTuningHook'), dict(type='mmltm.IBStatisticsHook', report_interval=1)]
"""


@pytest.fixture(autouse=True, scope='session')
def one_thread():
    """Results to the bit."""
    torch.set_num_threads(1)


@pytest.fixture(scope='session')
def folder(tmp_path_factory):
    """With ``tuning.py``, ``scratch.py``, ``vanilla.pth`` and ``data``: 8 images for training, 9 for testing."""
    folder = tmp_path_factory.mktemp('comparison')
    rng = np.random.default_rng(0)
    for split, counts in (('train', (3, 3, 2)), ('val', (3, 3, 3))):
        for index, (name, count) in enumerate(zip('abc', counts)):
            (folder / 'data' / split / name).mkdir(parents=True)
            for number in range(count):
                image = rng.integers(0, 130, (64, 64, 3)) + 60 * index
                cv2.imwrite(str(folder / 'data' / split / name / f'{number}.png'), image)
    (folder / 'tuning.py').write_text(CONFIG + TUNING)
    (folder / 'scratch.py').write_text(CONFIG)
    cfg = load_config(str(folder / 'tuning.py'))
    torch.manual_seed(0)
    model = build_model(vanilla_twin(cfg), cfg.default_scope)
    torch.save(dict(state_dict=model.state_dict()), folder / 'vanilla.pth')
    return folder


@pytest.fixture
def inside(folder, monkeypatch):
    """The folder, as the current one, to which paths in the config are relative."""
    monkeypatch.chdir(folder)
    return folder
