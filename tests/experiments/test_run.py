"""tools/experiments/run.py: vanilla models trained one from another, and an experiment from scratch as a whole."""

import subprocess
import sys

import pytest

import run
from harness.results import load_results
from mmltm.errors import UserError

SCRATCH = '''"""A title."""
config, epochs = {config!r}, 2
overrides = {{'visualizer.name': 'of its own'}}
batch_sizes = (1, )
methods = [dict(label='LTM', merger=dict(type='LTM', window=8), ratios=(0.5, ), epochs=(epochs, ))]
claims = [dict(text='LTM is better', ours=dict(label='LTM', ratio=0.5, epochs=epochs),
               theirs=dict(label='vanilla', epochs=epochs))]
'''


@pytest.fixture
def tool(monkeypatch, tmp_path):
    """The tool as a module, which finds and writes everything below ``tmp_path``."""
    monkeypatch.setattr(run, 'ROOT', tmp_path)
    monkeypatch.setattr(run, 'EXPERIMENTS', tmp_path / 'experiments')
    (tmp_path / 'experiments').mkdir()
    (tmp_path / 'configs').mkdir()
    for name in ('first', 'second'):
        (tmp_path / f'configs/{name}.py').touch()
    return run


def test_vanilla_models_train_one_from_another(tool, tmp_path, monkeypatch):
    calls = []

    def train(command):
        calls.append(command)
        work_dir = tmp_path / 'work_dirs' / ('first' if 'first.py' in command[2] else 'second')
        work_dir.mkdir(parents=True, exist_ok=True)
        (work_dir / 'last_checkpoint').write_text(f'/elsewhere/epoch_{len(calls)}.pth')
        return subprocess.CompletedProcess(command, len(calls) == 2)  # the second call fails

    monkeypatch.setattr(tool.subprocess, 'run', train)
    assert tool.vanilla_checkpoint([], None) is None
    with pytest.raises(UserError, match='the training of second has failed'):
        tool.vanilla_checkpoint(['first', 'second'], 'images')
    first = str(tmp_path / 'work_dirs/first/epoch_1.pth')
    assert '--cfg-options' not in calls[0] and calls[1][-2:] == ['--cfg-options', f'load_from={first}']
    for _ in range(2):  # interrupted before, and there already
        assert tool.vanilla_checkpoint(['first', 'second'], None) == str(tmp_path / 'work_dirs/second/epoch_3.pth')
    assert len(calls) == 3 and calls[2][-1] == '--resume' and f'load_from={first}' in calls[2]


@pytest.fixture
def call(tool, inside, monkeypatch, tmp_path):
    """Runs the experiment from scratch with further arguments."""

    def call(*arguments):
        (tmp_path / 'experiments/tried.py').write_text(SCRATCH.format(config=str(inside / 'scratch')))
        monkeypatch.setattr(sys, 'argv', ['run.py', 'tried', '--data-root', 'data', *arguments])
        tool.main()
        return {cell['label']: cell for cell in load_results(tmp_path / 'results/tried')}

    return call


def test_from_scratch(call, tool, tmp_path, capsys, monkeypatch):
    timed = []
    monkeypatch.setattr(tool, 'measure_latency', lambda *arguments: timed.append(arguments))
    cells = call()
    assert [(len(done), sizes) for done, sizes in timed] == [(2, (1, ))]
    assert set(cells) == {'vanilla', 'LTM'}
    for cell in cells.values():
        assert (cell['status'], cell['tuned'], cell['checkpoint'], cell['epochs']) == ('done', 'all', None, 2)
        assert [entry['epoch'] for entry in cell['history']] == [1, 2], 'each logs to a folder of its own'
    assert {path.name for path in (tmp_path / 'results/tried').glob('*.png')} == {
        'comparison.png', 'curves.png', 'ib_layers.png'}
    assert '| LTM is better |' in capsys.readouterr().out
    call('--no-latency')
    assert '2 cells, 0 of them to run' in capsys.readouterr().out and len(timed) == 1
    with pytest.raises(UserError, match='tried trains from scratch: leave out --checkpoint'):
        call('--checkpoint', 'vanilla.pth')
