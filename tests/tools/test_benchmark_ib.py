"""tools/analysis_tools/benchmark_ib.py: what it measures on a small model, and what it refuses."""

import json
import runpy
import sys

import pytest

CONFIG = """
_base_ = 'mmpretrain::_base_/default_runtime.py'
model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmltm.LTMEfficientViT', arch='b0', ratio=0.5),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=5, in_channels=128, loss=dict(type='CrossEntropyLoss')))
data_preprocessor = dict(
    num_classes=5, mean=[127] * 3, std=[64] * 3, batch_augments=dict(augments=dict(type='Mixup', alpha=0.8)))
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-3))
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'small.py'
    path.write_text(CONFIG)
    return path


@pytest.fixture
def call(root, monkeypatch, tmp_path):
    """Runs the tool in this process, from the repository, as small as can be; returns what it wrote."""

    def run(config, *arguments):
        monkeypatch.chdir(root)
        out = tmp_path / 'results.json'
        monkeypatch.setattr(sys, 'argv', [
            'benchmark_ib.py', str(config), '--shape', '32', '64', '--batch-size', '2', '--rounds', '2',
            '--warmup', '0', '--device', 'cpu', '--out', str(out), *arguments])
        runpy.run_path(str(root / 'tools/analysis_tools/benchmark_ib.py'), run_name='__main__')
        return json.loads(out.read_text())

    return run


def layer_bytes(classes, tokens, merged, channels, stat_dim):
    """Statistics and step of a layer, and the report's centroids of its tokens projected to 64 numbers."""
    d = stat_dim or channels
    projection = channels * stat_dim if stat_dim else 0
    statistics = 2 * classes * (merged * d + classes) + 3 * classes + projection
    report = 2 * classes * 65 + 64 * tokens * d + 6
    return 4 * (statistics + report + tokens * merged) + 1


def test_time_and_memory(call, config, capsys):
    results = call(config, '--num-classes', '7')
    assert results['setting']['num_classes'] == 7
    for clock in results['time'].values():
        assert clock['ratio_of_medians'] == pytest.approx(clock['on_ms'] / clock['off_ms'])
        assert clock['on_quartiles_ms'][0] <= clock['on_ms'] <= clock['on_quartiles_ms'][1]
    memory = results['memory']
    assert len(memory['layers']) == 3
    for layer in memory['layers']:
        (h, w), (p, q), channels = layer['source'], layer['target'], layer['channels']
        assert layer['statistics_bytes'] == layer_bytes(7, h * w, p * q, channels, 16)
        assert layer['exact_bytes'] == layer_bytes(7, h * w, p * q, channels, None)
    assert memory['statistics_bytes'] == sum(layer['statistics_bytes'] for layer in memory['layers'])
    # What the step computes with for a moment is gone when the peak comes.
    added = memory['peak_on_bytes'] - memory['peak_off_bytes']
    assert added == pytest.approx(memory['statistics_bytes'], rel=0.02)
    assert 'ratio of medians' in capsys.readouterr().out


def test_masks_alone(call, config):
    everything = call(config, '--num-classes', '7')
    config.write_text(CONFIG + "custom_hooks = [dict(type='mmltm.MaskTuningHook')]\n")
    masks = call(config, '--num-classes', '7')
    assert masks['setting']['masks_only'] and not everything['setting']['masks_only']
    # Neither gradients nor the optimizer's state of frozen weights.
    assert masks['memory']['peak_on_bytes'] < everything['memory']['peak_on_bytes']


def test_no_statistics(call, config):
    with pytest.raises(SystemExit, match='error: config .*small.py: no layer keeps statistics: set model.backbone'):
        call(config)


def test_detector(call, config):
    config.write_text("default_scope = 'mmdet'\nmodel = dict()\noptim_wrapper = dict()\n")
    with pytest.raises(SystemExit, match='error: config .*small.py is of mmdet: only classifiers can be measured'):
        call(config)
