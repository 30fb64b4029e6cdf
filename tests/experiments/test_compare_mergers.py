"""tools/experiments/compare_mergers.py: one command from a config to the table."""

import csv
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
        return list(csv.DictReader((tmp_path / 'comparison.csv').open()))

    return run


def test_from_a_config_to_the_table(call, tmp_path, capsys):
    rows = call('tuning.py', '--checkpoint', 'vanilla.pth', '--mergers', 'LTM', 'EViT', '--ratios', '0.5',
                '--batch-size', '2', '--rounds', '2', '--cfg-options', 'model.backbone.merger.eta=0.5')
    assert [(row['label'], bool(row['error'])) for row in rows] == [
        ('vanilla', False), ('EViT', True), ('LTM', False)]
    assert float(rows[2]['macs_ratio']) < 1 and float(rows[2]['median_ms_batch_2']) > 0
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
    for arguments in ((), ('tuning.py', '--rounds', '0'), ('tuning.py', '--jobs', '-1')):
        with pytest.raises(SystemExit) as stop:
            call(*arguments)
        assert stop.value.code == 2
