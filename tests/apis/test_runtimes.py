"""Other runtimes compute what PyTorch does."""

import numpy as np
import pytest
import torch

from mmltm.apis.runtimes import EXPORTED, Runnable
from mmltm.models.builder import build_model


@pytest.mark.parametrize('runtime', EXPORTED)
def test_exported_backbones_agree_with_eager(runtime):
    pytest.importorskip(runtime)
    torch.manual_seed(0)
    model = build_model(dict(
        type='ImageClassifier', neck=dict(type='GlobalAveragePooling'),
        backbone=dict(type='mmltm.LTMEfficientViT', arch='b0', merger=dict(type='AvgPool', ratio=0.5)),
        head=dict(type='LinearClsHead', num_classes=3, in_channels=128)), 'mmpretrain')
    for parameter in model.parameters():  # initialised so that its maps are near zero otherwise
        torch.nn.init.normal_(parameter, std=0.2)
    runnable = Runnable(model.eval(), 'backbone', torch.randn(2, 3, 64, 64))
    with torch.inference_mode():
        (wanted, ) = runnable.call('eager')()
    found = runnable.call(runtime)()[0]
    assert found.shape == wanted.shape == (2, 128, 2, 2)
    assert np.abs(found - wanted.numpy()).max() == pytest.approx(0, abs=1e-4 * wanted.abs().max().item())
