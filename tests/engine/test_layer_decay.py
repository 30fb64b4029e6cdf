"""Learning rates that fall from layer to layer, in a detector."""

import pytest
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmltm.models import LTMViTSAM


def test_rates_follow_the_depth_of_the_backbone():
    model = nn.Module()
    model.backbone = LTMViTSAM(
        dict(embed_dims=8, num_layers=3, num_heads=1, feedforward_channels=8, global_attn_indexes=[1]), img_size=32,
        ratio=0.5, out_channels=0)
    model.head = nn.Linear(2, 2)
    wrapper = build_optim_wrapper(model, dict(
        constructor='mmltm.LayerDecayConstructor', optimizer=dict(type='AdamW', lr=1., weight_decay=0.1),
        paramwise_cfg=dict(layer_decay_rate=0.5, norm_decay_mult=0., custom_keys={'mergers': dict(decay_mult=0.)})))
    groups = {group['param_name']: group for group in wrapper.optimizer.param_groups}
    assert groups.keys() == {name for name, _ in model.named_parameters()}
    rates = {'head.weight': 1, 'backbone.layers.2.attn.qkv.weight': 1 / 2, 'backbone.mergers.1.logits': 1 / 4,
             'backbone.layers.0.ln1.weight': 1 / 8, 'backbone.pos_embed': 1 / 16}
    for name, rate in rates.items():
        assert groups[name]['lr'] == pytest.approx(rate), name
    assert not any(groups[f'backbone.{name}']['weight_decay'] for name in ('mergers.1.logits', 'layers.0.ln1.weight'))
    assert groups['head.weight']['weight_decay'] == 0.1
