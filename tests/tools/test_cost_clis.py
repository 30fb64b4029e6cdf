"""tools/analysis_tools/benchmark.py and get_flops.py: what they measure on a small model, and what they refuse."""

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
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'small.py'
    path.write_text(CONFIG)
    return str(path)


@pytest.fixture
def call(root, monkeypatch, tmp_path):
    """Runs a tool in this process; returns what it wrote."""

    def run(tool, *arguments):
        out = tmp_path / 'results.json'
        monkeypatch.setattr(sys, 'argv', [f'{tool}.py', *arguments, '--out', str(out)])
        runpy.run_path(str(root / f'tools/analysis_tools/{tool}.py'), run_name='__main__')
        return json.loads(out.read_text())

    return run


QUICK = ('--shape', '32', '64', '--rounds', '4', '--warmup', '0', '--device', 'cpu', '--batch-size', '1')


def test_scopes_and_what_the_file_has(call, config):
    first = call('benchmark', config, *QUICK, '--scope', 'backbone')
    assert len(first['rows']) == 2
    results = call('benchmark', config, *QUICK, '--scope', 'network', 'backbone')
    assert results['rows'][:2] == first['rows']
    assert [(row['merger'], row['scope']) for row in results['rows']] == [
        ('vanilla', 'backbone'), ('LTM', 'backbone'), ('vanilla', 'network'), ('LTM', 'network')]
    assert len(results['runs']) == 2 and all(run['command'].startswith('python ') for run in results['runs'])
    for backbone, network in zip(results['rows'][:2], results['rows'][2:]):
        assert network['parameters_m'] - backbone['parameters_m'] == pytest.approx((128 + 1) * 5 / 1e6)
        assert network['gmacs'] - backbone['gmacs'] == pytest.approx(128 * 5 / 1e9)
        low, high = network['latency_ms_quartiles']
        assert low <= network['latency_ms'] <= high
        assert network['images_per_second'] == pytest.approx(1e3 / network['latency_ms'])
    assert results['rows'][1]['macs_ratio'] < 1


def test_mergers_side_by_side(call, config):
    mergers = ('AvgPool', 'EViT', 'LTM', 'Crop', 'LTM:mode=static')
    results = call('benchmark', config, *QUICK, '--mergers', *mergers, '--ratio', '0.7')
    vanilla, pooling, evit, ltm, crop, static = results['rows']
    assert [(row['merger'], row['ratio']) for row in results['rows'][1:]] == [(name, 0.7) for name in mergers]
    assert crop['gmacs'] <= static['gmacs'] <= ltm['gmacs'] < vanilla['gmacs']
    assert pooling['first_ratio'] == 1 and ltm['first_ratio'] > 0 and vanilla['first_ratio'] is None
    assert evit['reason'].startswith('merger EViT finds no pairs') and 'latency_ms' not in evit


def test_runtimes_side_by_side(call, config):
    results = call('benchmark', config, *QUICK, '--mergers', 'AvgPool', '--runtime', 'eager', 'onnxruntime',
                   '--cpu-time', '--threads', '1')
    assert [(row['runtime'], row['merger']) for row in results['rows']] == [
        (runtime, merger) for runtime in ('eager', 'onnxruntime') for merger in ('vanilla', 'AvgPool')]
    for vanilla, pooling in zip(results['rows'][::2], results['rows'][1::2]):
        assert vanilla['latency_ratio'] == 1 and pooling['latency_ratio'] > 0 and pooling['gmacs'] < vanilla['gmacs']
    assert results['setting']['clock'] == 'CPU time' and results['setting']['onnxruntime']


def test_what_cannot_be_exported_says_so(call, config, monkeypatch):
    monkeypatch.setattr('mmltm.apis.export.trace', lambda *args, **kwargs: 1 / 0)
    rows = call('benchmark', config, *QUICK, '--runtime', 'eager', 'onnxruntime')['rows']
    assert [row.get('reason') for row in rows] == [
        None, None, 'ZeroDivisionError: division by zero',
        'the vanilla twin does not run: ZeroDivisionError: division by zero']


@pytest.mark.parametrize('wrong', [('--runtime', 'cudagraph'), ('--runtime', 'openvino', '--amp')])
def test_runtimes_that_cannot_be(call, config, wrong):
    with pytest.raises(SystemExit, match=f'error: runtime {wrong[1]} .*--device'):
        call('benchmark', config, *QUICK, *wrong)


def test_limit_of_time(call, config):
    results = call('benchmark', config, *QUICK, '--max-time', '1e-9')
    assert {row['rounds'] for row in results['rows']} == {3}


def test_ratios_in_one_file(call, config):
    results = call('get_flops', config, '--shape', '64', '--ratio', '0.9', '0.5', '--scope', 'network', 'backbone')
    rows = {(row['ratio'], row['scope']): row['gmacs'] for row in results['rows']}
    assert len(results['rows']) == len(rows) == 6
    assert rows[0.5, 'backbone'] < rows[0.9, 'backbone'] <= rows[None, 'backbone'] < rows[None, 'network']
    assert results['kind'] == 'macs' and results['setting']['torch']


@pytest.mark.parametrize('tool', ['benchmark', 'get_flops'])
def test_wrong_number_of_ratios(call, config, tool):
    with pytest.raises(SystemExit, match=(
            r'error: cannot build the model from .*small.py: .*ratio has 2 values for 4 merging blocks')):
        call(tool, config, '--cfg-options', 'model.backbone.ratio=[0.5,0.5]')


def test_file_of_another_kind_or_setting(call, config):
    call('benchmark', config, *QUICK)
    with pytest.raises(SystemExit, match="error: .*results.json was measured with amp False, this run has True"):
        call('benchmark', config, *QUICK, '--amp')
    with pytest.raises(SystemExit, match="error: .*results.json is of kind 'benchmark', not 'macs'"):
        call('get_flops', config)


def test_vanilla_config(call, config, tmp_path):
    (tmp_path / 'small.py').write_text(CONFIG.replace("type='mmltm.LTMEfficientViT', arch='b0', ratio=0.5",
                                                      "type='mmltm.EfficientViT', arch='b0'"))
    with pytest.raises(SystemExit, match='error: config .*small.py: the backbone .* merges no tokens'):
        call('benchmark', config, *QUICK)
    (row, ) = call('get_flops', config, '--shape', '64')['rows']
    assert row['merger'] is None and row['gmacs'] > 0


def test_beside_the_papers_numbers(root, monkeypatch, capsys):
    name = 'ltm_efficientvit_b1_paper_300e_in1k.py'
    monkeypatch.setattr(sys, 'argv', ['get_flops.py', str(root / 'configs/paper' / name)])
    monkeypatch.setenv('COLUMNS', '200')
    runpy.run_path(str(root / 'tools/analysis_tools/get_flops.py'), run_name='__main__')
    (row, ) = (line for line in capsys.readouterr().out.splitlines() if 'EfficientViT-B1' in line)
    cells = [cell.strip() for cell in row.strip('│').split('│')]
    parameters, papers_parameters, *_, quotient, papers_quotient = map(float, cells[2:])
    assert parameters == pytest.approx(papers_parameters, rel=0.03)
    assert quotient == pytest.approx(papers_quotient, rel=0.03)
