import time

import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmltm.apis.profiling import count_macs, network_call, time_interleaved
from mmltm.models import EfficientViT, LTMEfficientViT
from mmltm.models.builder import build_model, vanilla_twin


def test_counts_products_by_hand_and_containers_by_their_children():
    class Net(nn.Module):

        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8)])
            self.idle = nn.Linear(4, 4)

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
            q = x.flatten(2)
            return nn.functional.scaled_dot_product_attention(q, q, q)

    model = Net().eval()
    x = torch.zeros(2, 3, 10, 10)
    counts = count_macs(model, lambda: model(x))
    first, second, attention = 2 * 64 * 8 * 27, 2 * 36 * 8 * 9, 2 * 2 * 8 * 8 * 36
    assert counts['layers.0'] == first and counts['layers'] == first + second
    assert counts[''] == first + second + attention and counts['idle'] == 0


def test_vanilla_twin_and_both_scopes():
    cfg = Config(dict(default_scope='mmpretrain', model=dict(
        type='ImageClassifier', backbone=dict(type='mmltm.LTMEfficientViT', arch='b0', ratio=0.5),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=3, in_channels=128, loss=dict(type='CrossEntropyLoss')))))
    twin = build_model(vanilla_twin(cfg), 'mmpretrain')
    merging = build_model(cfg.model, 'mmpretrain')
    assert cfg.model.backbone.ratio == 0.5 and not [n for n, _ in twin.named_parameters() if 'mergers' in n]
    assert isinstance(merging.backbone, LTMEfficientViT)
    x = torch.zeros(1, 3, 224, 224)
    counts = [count_macs(model, network_call(model, x))[''] for model in (merging, twin)]
    assert counts[0] < 0.8 * counts[1]
    assert count_macs(twin, network_call(twin, x))['backbone'] == count_macs(
        EfficientViT('b0').eval(), lambda: twin.backbone(x))['']
    cfg.model.backbone = dict(type='ResNet', depth=18)
    with pytest.raises(ValueError, match='ResNet.*merges no tokens'):
        vanilla_twin(cfg)


def test_interleaved_ratios_are_of_one_round():
    calls, order = 3, []

    def call(index):
        return lambda: (order.append(index), time.sleep(0.002 * (index + 1)))

    timings = time_interleaved([call(index) for index in range(calls)], rounds=4, warmup=1, device=torch.device('cpu'))
    assert order[:6] == [2, 1, 0, 0, 1, 2] and len(order) == 15
    assert all(len(timing.seconds) == 4 for timing in timings)
    assert timings[2].ratio_to(timings[0]).median > 1.5
    low, high = timings[1].quartiles
    assert low <= timings[1].median <= high
