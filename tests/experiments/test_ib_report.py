"""tools/experiments/ib_report.py: its numbers, what it takes over from an earlier run, and what it refuses."""

import csv
import json
import runpy
import sys

import cv2
import numpy as np
import pytest
import torch

from harness.ib_curves import position
from harness.result_file import save_result
from mmltm.apis.config import load_config
from mmltm.models.builder import build_model, vanilla_twin

CONFIG = """
_base_ = 'mmpretrain::_base_/default_runtime.py'
model = dict(
    type='ImageClassifier', backbone=dict(type='mmltm.LTMEfficientViT', arch='b0', ratio=0.5),
    neck=dict(type='GlobalAveragePooling'), head=dict(type='LinearClsHead', num_classes=3, in_channels=128))
data_preprocessor = dict(num_classes=3, mean=[127] * 3, std=[64] * 3)
load = dict(type='LoadImageFromFile')
pack = dict(type='PackInputs')
data = dict(type='CustomDataset', data_root='data', pipeline=[load, pack])
loader = dict(batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = dict(dataset=dict(data_prefix='val', **data), **loader)
train_dataloader = dict(dataset=dict(type='RepeatDataset', times=3, dataset=dict(
    type='CustomDataset', data_root='data', data_prefix='train',
    pipeline=[load, dict(type='RandomFlip', prob=0.5), pack])), **loader)
"""
KEYS = {'ib_loss', 'ib_bound', 'c0', 'mi_input', 'mi_label'}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Images of three classes, a config, and checkpoints with and without merging."""
    folder = tmp_path_factory.mktemp('ib')
    rng = np.random.default_rng(0)
    for split, count in (('train', 2), ('val', 3)):
        for index, name in enumerate('abc'):
            (folder / 'data' / split / name).mkdir(parents=True)
            for number in range(count):
                image = rng.integers(0, 130, (64, 64, 3)) + 60 * index
                cv2.imwrite(str(folder / 'data' / split / name / f'{number}.png'), image)
    (folder / 'ltm.py').write_text(CONFIG)
    cfg = load_config(str(folder / 'ltm.py'))
    torch.manual_seed(0)
    for name, model in (('one', cfg.model), ('two', cfg.model), ('vanilla', vanilla_twin(cfg))):
        state = build_model(model, cfg.default_scope).state_dict()
        torch.save(dict(state_dict=state), folder / f'{name}.pth')
    return folder


@pytest.fixture
def call(root, monkeypatch, folder, tmp_path):
    """Runs the tool in this process; returns the results in its JSON file."""

    def run(*arguments):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, 'argv', ['ib_report.py', 'ltm.py', *arguments, '--out-dir', str(tmp_path / 'out')])
        runpy.run_path(str(root / 'tools/experiments/ib_report.py'), run_name='__main__')
        return json.loads((tmp_path / 'out' / 'ib.json').read_text())['results']

    return run


def test_report_and_what_is_taken_over(call, tmp_path, capsys):
    first, = call('one.pth')
    assert first['images'] == 9 and len(first['layers']) == 4
    for values in first['layers'].values():
        assert set(values) == KEYS
        assert values['ib_loss'] == pytest.approx(values['mi_input'] - values['mi_label'])
        assert values['ib_loss'] <= values['ib_bound'] - values['c0'] + 1e-6

    path = tmp_path / 'out' / 'ib.json'
    first['layers']['stages.2.mergers.0']['ib_loss'] = 7.0  # to be seen again if it is taken over
    save_result(path, dict(kind='ib', results=[first]))
    capsys.readouterr()
    results = call('one.pth', 'two.pth', '--labels', 'first', 'second', '--vanilla', 'vanilla.pth')
    assert 'first: taken from' in capsys.readouterr().out
    assert [result['label'] for result in results] == ['first', 'vanilla', 'second']
    assert results[0]['layers'] == first['layers'] != results[2]['layers']
    assert list(results[1]['layers']) == [f'stages.{s}.blocks.{b}.context' for s in (2, 3) for b in (0, 1)]

    files = {path.suffix: path for path in (tmp_path / 'out').iterdir()}
    assert set(files) == {'.json', '.png', '.csv', '.md'}
    rows = list(csv.DictReader(files['.csv'].open()))
    assert [(row['label'], row['layer']) for row in rows[:5]] == [
        ('vanilla', '2.0'), ('vanilla', '2.1'), ('vanilla', '3.0'), ('vanilla', '3.1'), ('first', '2.0')]
    assert float(rows[4]['ib_loss']) == 7.0
    text = files['.md'].read_text()
    assert '| layer | vanilla | first | second |' in text and '| 7.0000 |' in text
    assert all(f'**{title}' in text for title in ('IB loss', 'IB bound', 'I(X~, X)', 'I(X~, Y)'))
    assert cv2.imread(str(files['.png'])).shape[1] > 1000


def test_settings_that_change_the_numbers_are_measured_anew(call):
    call('one.pth')
    call('one.pth', '--max-images', '6')
    call('one.pth', '--split', 'train')
    results = call('one.pth', '--metric-options', 'beta=1.0')
    assert [result['images'] for result in results] == [9, 6, 6, 9]
    losses = [result['layers']['stages.3.mergers.0']['ib_loss'] for result in results]
    assert len(set(losses)) == 4


@pytest.mark.parametrize('arguments, message', [
    (('none.pth', ), 'checkpoint none.pth does not exist'),
    (('vanilla.pth', '--vanilla', 'one.pth', '--labels', 'vanilla'), "two checkpoints have the label 'vanilla'"),
    (('one.pth', '--data-root', 'elsewhere'), 'elsewhere'),
    (('one.pth', '--metric-options', 'gamma=1'), '--metric-options: '),
    (('one.pth', '--metric-options', 'layers=x'), "no module has a name like 'x'"),
    (('one.pth', '--cfg-options', 'model.backbone.ratio=0.9'), 'one.pth is of another model')])
def test_mistakes_in_one_line(call, arguments, message):
    with pytest.raises(SystemExit) as stop:
        call(*arguments)
    assert message in stop.value.code and '\n' not in stop.value.code and stop.value.code.startswith('error: ')


def test_positions():
    names = ['stages.2.mergers.1', 'stages.2.blocks.1.context', 'layers.3.1.mergers.0', 'layers.3.1.global_rep.0.ffn',
             'mergers.10', 'layers.10.ffn']
    assert [position(name) for name in names] == [(2, 1), (2, 1), (3, 1, 0), (3, 1, 0), (10, ), (10, )]
