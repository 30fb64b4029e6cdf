"""tools/experiments/compare_mergers.py: one command from a config to the table."""

import json
import runpy
import sys

import cv2
import pytest


@pytest.fixture
def call(root, monkeypatch, inside, tmp_path):
    """Runs the tool in this process; returns the rows of its table."""

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['compare_mergers.py', *arguments, '--out-dir', str(tmp_path)])
        runpy.run_path(str(root / 'tools/experiments/compare_mergers.py'), run_name='__main__')
        return json.loads((tmp_path / 'comparison.json').read_text())['rows']

    return run


def test_from_a_config_to_the_table(call, tmp_path, capsys):
    rows = call('tuning.py', '--checkpoint', 'vanilla.pth', '--mergers', 'LTM', 'EViT', '--ratios', '0.5',
                '--batch-size', '2', '--rounds', '2', '--cfg-options', 'model.backbone.merger.eta=0.5')
    assert [(row['label'], bool(row['error'])) for row in rows] == [('vanilla', 0), ('EViT', 1), ('LTM', 0)]
    assert rows[2]['macs_ratio'] < 1 and rows[2]['latency']['2']['median_ms'] > 0
    assert json.loads((tmp_path / 'cells' / 'tuning-ltm-r0.5-e0-s0.json').read_text())['merger']['eta'] == 0.5
    out = capsys.readouterr().out
    assert '| EViT | 0.50 | 0 | 0 | impossible |' in out and '- EViT 0.50, 0 epochs: impossible: merger EViT' in out
    (tmp_path / 'comparison.png').unlink()
    assert call('--report-only') == rows
    assert cv2.imread(str(tmp_path / 'comparison.png')) is not None


@pytest.mark.parametrize('arguments, message', [
    (('tuning.py', '--checkpoint', 'none.pth'), 'checkpoint none.pth does not exist'),
    (('tuning.py', '--mergers', 'LTN'), 'unknown merger LTN'),
    (('tuning.py', '--ratios', '2'), 'ratios must lie in (0, 1]'),
    (('tuning.py', '--data-root', 'nowhere'), 'nowhere'),
    (('tuning.py', '--cfg-options', 'model.backbone.ratio=0.5'), 'model.backbone.ratio is for the merger'),
    (('--report-only', ), 'holds no results')])
def test_mistakes_in_one_line(call, tmp_path, arguments, message):
    with pytest.raises(SystemExit) as stop:
        call(*arguments)
    assert message in stop.value.code and '\n' not in stop.value.code and stop.value.code.startswith('error: ')
    assert not (tmp_path / 'cells').exists()


def test_usage(call, capsys):
    for arguments in ((), ('tuning.py', '--rounds', '0')):
        with pytest.raises(SystemExit) as stop:
            call(*arguments)
        assert stop.value.code == 2
