"""Metrics of a config in the model index are of the config as it is."""

from pathlib import Path

import pytest
import yaml

from harness.metafiles import _metrics

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


@pytest.mark.parametrize('overrides, metrics', [
    ({}, {'Top 1 Accuracy': 78.1, 'Epochs': 5, 'Seeds': 1}), ({'model.backbone.restore': 'none'}, None)])
def test_metrics_are_of_the_config_as_it_is(overrides, metrics):
    row = dict(config='a', label='LTM', ratio=0.7, epochs=5, seeds=1, metric='accuracy/top1', value=78.1,
               overrides=overrides)
    assert _metrics('a', 0.7, [row, {**row, 'epochs': 0, 'overrides': {}, 'value': 1.}]) == metrics


def test_training_data_whatever_follows_in_the_name():
    models = [model for path in CONFIGS.glob('metafile_*.yml') for model in yaml.safe_load(path.read_text())['Models']]
    small = {model['Name'] for model in models if model['Metadata']['Training Data'] == 'Imagenette'}
    assert small == {path.stem for path in (CONFIGS / 'imagenette').glob('*.py')}
