"""Checkpoints from before the mask module was rebuilt still load: keys and shapes as recorded then (version 0.1.0)."""

import json
from pathlib import Path

import pytest
import torch

from mmltm.models.builder import build_model
from mmltm.models.mergers import merger_type

RECORDED = json.loads((Path(__file__).parent / 'state_dict_keys.json').read_text())


def at_old_grids(config):
    """The config with the rounding that its backbone had by default."""
    if not merger_type(config['merger']).has_windows:
        return config
    rounding = 'nearest' if config['type'] in ('LTMEfficientViT', 'LTMMobileViT') else 'product'
    return {**config, 'merger': dict(config['merger'], rounding=rounding)}


@pytest.mark.parametrize('name', RECORDED)
def test_an_old_checkpoint_loads_whole(name):
    recorded = RECORDED[name]
    model = build_model(at_old_grids(recorded['config']), 'mmltm')
    own = model.state_dict()
    state = {key: value for key, value in own.items() if 'mergers' not in key}
    assert len(state) == recorded['others']
    generator = torch.Generator().manual_seed(0)
    for key, shape in recorded['merging'].items():
        value = own[key]
        assert list(value.shape) == shape, key
        state[key] = torch.rand(shape, generator=generator).to(value.dtype)
    model.load_state_dict(state)  # strict: nothing is missing, nothing unknown
    for key in recorded['merging']:
        assert model.state_dict()[key].equal(state[key]), key
