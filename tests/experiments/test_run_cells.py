"""Cells through mmengine's Runner: their results, what is kept, what goes on, and what fails."""

import json
import re
import sys
from dataclasses import replace

import pytest
import torch

from harness.cell import Cell, grid
from harness.latency import measure_latency
from harness.resolve import resolve
from harness.result_file import load_result
from harness.results import load_results
from harness.run_cell import run_cell
from harness.run_cells import run_cells
from mmltm.apis.config import load_config
from mmltm.errors import UserError
from mmltm.models.checkpoints import state_dict

#: A hook that takes its process with it.
KILLED = """import os, signal
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
@HOOKS.register_module()
class KilledHook(Hook):
    def before_test(self, runner):
        os.kill(os.getpid(), signal.SIGKILL)
"""
VANILLA = Cell('tuning.py', checkpoint='vanilla.pth')
LTM = replace(VANILLA, label='LTM', merger=dict(type='LTM', ratio=0.5, num_classes=3, window=8), ratio=0.5)


@pytest.fixture(scope='module')
def out(folder, tmp_path_factory):
    """Results of four cells, and of one that the backbone cannot use."""
    out = tmp_path_factory.mktemp('results')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        cells = grid(load_config('tuning.py'), 'tuning.py', 'vanilla.pth', ['LTM', 'AvgPool', 'EViT'], [0.5], [0, 2])
        done = run_cells(cells, out, batch_size=2)
        measure_latency(done, batch_sizes=[1, 2], rounds=2, warmup=1)
    return out


def results_of(out):
    return {(result['label'], result['epochs']): result for result in load_results(out)}


def test_results(out, folder):
    results = results_of(out)
    assert set(results) == {('vanilla', 0), ('LTM', 0), ('LTM', 2), ('AvgPool', 0), ('EViT', 0), ('EViT', 2)}
    assert {key for key, result in results.items() if result['status'] == 'impossible'} == {('EViT', 0), ('EViT', 2)}
    assert 'EViT finds no pairs' in results['EViT', 0]['error']
    for (label, epochs), result in results.items():
        if label == 'EViT':
            continue
        assert result['status'] == 'done' and result['images'] == len(result['correct']) == 9
        accuracy = 100 * result['correct'].count('1') / 9
        assert result['metrics'] == {'accuracy/top1': pytest.approx(accuracy, abs=1e-3)}
        assert result['tuned'] == ('masks' if epochs else None)
        assert [entry['epoch'] for entry in result['history']] == list(range(1, epochs + 1))
        assert result['peak_memory']['batch_size'] == 2 and result['peak_memory']['bytes'] > 1e5
        assert result['ib'] is None and result['wall_time_s'] > 0 and result['setting']['torch'] == torch.__version__
    vanilla, ltm = results['vanilla', 0], results['LTM', 2]
    masks = [value for key, value in final_state(out, ltm).items() if re.search(r'mergers.*\.(logits|step_\w+)$', key)]
    assert ltm['learnt'] == sum(value.numel() for value in masks) == ltm['params'] - vanilla['params']
    assert ltm['gmacs'] == results['LTM', 0]['gmacs'] < vanilla['gmacs']
    assert all(entry['loss'] > 0 for entry in ltm['history'])
    assert str(folder) not in json.dumps(list(results.values()))
    assert str(out) not in json.dumps(list(results.values()))


def final_state(out, result):
    path, = (out / 'work_dirs' / result['key']).glob('*/epoch_*.pth')
    return state_dict(torch.load(path, weights_only=False))


def test_latency_in_one_run(out, inside, capsys):
    result = load_result(out / 'latency' / 'tuning.json')
    keys = {key: result['key'] for key, result in results_of(out).items()}
    # Masks that have learnt cost what they did.
    assert [model['cells'] for model in result['models']] == [
        [keys['vanilla', 0]], [keys['LTM', 0], keys['LTM', 2]], [keys['AvgPool', 0]]]
    assert result['shape'] == [64, 64] and result['rounds'] == 2
    for model in result['models']:
        assert [timing['batch_size'] for timing in model['timings']] == [1, 2]
    assert [timing['ratio'] for timing in result['models'][0]['timings']] == [1, 1]
    cells = [VANILLA, LTM, replace(LTM, epochs=2), Cell(**{
        **vars(VANILLA), 'label': 'AvgPool', 'merger': dict(type='AvgPool', ratio=0.5, window=8), 'ratio': 0.5})]
    before = (out / 'latency' / 'tuning.json').stat().st_mtime_ns
    cells = [resolve(cell, out) for cell in cells]
    measure_latency(cells, batch_sizes=[1, 2], rounds=2)
    assert 'taken from' in capsys.readouterr().out
    assert (out / 'latency' / 'tuning.json').stat().st_mtime_ns == before
    with pytest.raises(UserError, match='no vanilla cell of tuning.py'):
        measure_latency(cells[1:])


def test_finished_cells_are_kept(out, inside, capsys):
    before = {path: path.stat().st_mtime_ns for path in (out / 'cells').iterdir()}
    done = run_cells([VANILLA, replace(LTM, epochs=2)], out)
    assert [known.cell for known in done] == [VANILLA, replace(LTM, epochs=2)]
    assert '2 cells, 0 of them to run' in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (out / 'cells').iterdir()} == before
    other = replace(LTM, merger=dict(LTM.merger, eta=0))
    with pytest.raises(UserError, match=r'is a result of other settings \(merger, digest\)'):
        run_cells([VANILLA, other], out)


def test_a_failure_does_not_lose_the_others(inside, tmp_path, capsys):
    broken = replace(LTM, label='broken', epochs=1, hooks=[dict(type='mmltm.LTMPBudgetHook')])
    with_teacher = replace(LTM, label='tutored', epochs=1, hooks=[dict(type='mmltm.DistillationHook')])
    done = run_cells([broken, with_teacher], tmp_path)
    assert [known.cell for known in done] == [with_teacher]
    results = results_of(tmp_path)
    assert results['broken', 1]['status'] == 'failed' and 'no threshold to tune' in results['broken', 1]['error']
    assert 'UserError' in (tmp_path / 'work_dirs' / broken.key / 'traceback.txt').read_text()
    assert 'loss_distillation' in results['tutored', 1]['history'][0]
    assert 'broken' in capsys.readouterr().out
    run_cells([broken, with_teacher], tmp_path)
    assert '2 cells, 1 of them to run' in capsys.readouterr().out, 'a failed cell is tried again'


def test_several_at_a_time_come_to_the_same(inside, tmp_path, out, capsys, monkeypatch):
    broken = replace(LTM, label='broken', epochs=1, hooks=[dict(type='mmltm.LTMPBudgetHook')])
    killed = replace(VANILLA, config='killed.py', hooks=[dict(type='KilledHook')])
    monkeypatch.setattr(sys, 'path', [str(inside), *sys.path])
    (inside / 'killed_hook.py').write_text(KILLED)
    (inside / 'killed.py').write_text("_base_ = 'tuning.py'\ncustom_imports = dict(imports=['killed_hook'])\n")
    done = run_cells([VANILLA, broken, killed, replace(LTM, epochs=2)], tmp_path, jobs=2)
    assert [known.cell.label for known in done] == ['vanilla', 'LTM']
    alone = results_of(out)
    results = {(result['label'], result['epochs']): result for result in load_results(tmp_path)
               if result['config'] == 'tuning'}
    for key in (('vanilla', 0), ('LTM', 2)):
        assert results[key]['correct'] == alone[key]['correct'] and results[key]['metrics'] == alone[key]['metrics']
    assert 'no threshold to tune' in results['broken', 1]['error']
    assert load_result(resolve(killed, tmp_path).result_path)['error'] == 'its process has ended with -9'
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(('tuning-', 'killed-')) and ': ' in line for line in lines) == 4, 'a line a cell'


def test_an_interrupted_training_goes_on(inside, tmp_path, out):
    cell = replace(LTM, epochs=2)

    def interrupt(done, total):
        if done == 3:  # in the second epoch, of two steps
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_cell(resolve(cell, tmp_path), tick=interrupt)
    assert (resolve(cell, tmp_path).work_dir / 'epoch_1.pth').is_file()
    ticks = []
    result = run_cell(resolve(cell, tmp_path), ib=True, tick=lambda *tick: ticks.append(tick))
    assert result['resumed'] and ticks[0][0] == 3 and ticks[-1] == (4 + 3 * 3, 4 + 3 * 3)
    straight = results_of(out)['LTM', 2]
    assert not straight['resumed']
    for key in ('metrics', 'correct', 'gmacs', 'learnt'):
        assert result[key] == straight[key]
    assert [entry['loss'] for entry in result['history']] == pytest.approx(
        [entry['loss'] for entry in straight['history']])
    assert len(result['ib']['layers']) == 4
    for values in result['ib']['layers'].values():
        assert values['ib_loss'] <= values['ib_bound'] - values['c0'] + 1e-6


def test_training_from_scratch_learns_all(inside, tmp_path):
    result = run_cell(resolve(Cell('scratch.py', epochs=1), tmp_path))
    assert result['tuned'] == 'all' and result['learnt'] == result['params'] and result['checkpoint'] is None
    assert resolve(Cell('scratch.py', epochs=1)).cfg.load_from is None
