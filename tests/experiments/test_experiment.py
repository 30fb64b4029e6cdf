"""Experiments: files of cells and claims."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.experiment import config_path, read_experiment, save_experiment, saved_experiment
from harness.resolve import resolve
from mmltm.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = sorted((ROOT / 'tools/experiments/experiments').glob('*.py'))

FILE = '''"""A title.

More."""
config = 'ltm_efficientvit_b0_finetune_imagenette128'
vanilla = 'efficientvit_b0_imagenette128'
overrides = {'model.backbone.restore': 'none'}
methods = [
    dict(label='LTM', merger=dict(type='LTM'), ratios=(0.7, 0.5), epochs=(0, 2), seeds=(0, 1)),
    dict(label='AvgPool', merger=dict(type='AvgPool'), ratios=(0.5, ), epochs=(0, )),
]
claims = [dict(text='Learning helps', ours=dict(label='LTM', ratio=0.5, epochs=2),
               theirs=dict(label='AvgPool', ratio=0.5))]
'''


@pytest.fixture
def file(tmp_path):
    path = tmp_path / 'tried.py'
    path.write_text(FILE)
    return path


def test_cells_of_a_file(file):
    experiment = read_experiment(file, 'vanilla.pth')
    assert (experiment.name, experiment.title, experiment.vanilla) == (
        'tried', 'A title.', ['efficientvit_b0_imagenette128'])
    assert (experiment.metric, experiment.batch_sizes) == (None, (1, 16))
    # LTM off the shelf is the same for all seeds.
    assert [(cell.label, cell.ratio, cell.epochs, cell.seed) for cell in experiment.cells] == [
        ('vanilla', None, 0, 0), ('LTM', 0.7, 0, 0), ('LTM', 0.7, 2, 0), ('LTM', 0.7, 2, 1), ('LTM', 0.5, 0, 0),
        ('LTM', 0.5, 2, 0), ('LTM', 0.5, 2, 1), ('AvgPool', 0.5, 0, 0)]
    assert all(cell.checkpoint == 'vanilla.pth' and cell.overrides == {'model.backbone.restore': 'none'}
               for cell in experiment.cells)
    assert experiment.cells[1].merger == dict(type='LTM', ratio=0.7)
    claim, = experiment.claims
    assert claim['ours'] == [cell.key for cell in experiment.cells[5:7]]


def test_a_share_for_each_block(file):
    merger = "dict(type='AvgPool', ratio=[0.5, 1.0])"
    file.write_text(FILE.replace("merger=dict(type='AvgPool'), ratios=(0.5, )", f'merger={merger}, ratio=0.5'))
    cell = read_experiment(file, 'vanilla.pth').cells[-1]
    assert cell.merger == dict(type='AvgPool', ratio=[0.5, 1.0]) and cell.ratio == 0.5


def test_claim_about_nothing(file):
    file.write_text(FILE.replace("label='AvgPool', ratio=0.5)", "label='AvgPool', ratio=0.7)"))
    with pytest.raises(UserError, match='a claim is about .*AvgPool'):
        read_experiment(file, 'vanilla.pth')


def test_plot_of_nothing(file):
    file.write_text(FILE + "plot = ['AvgPool', 'ToMe']\n")
    with pytest.raises(UserError, match="plot names 'ToMe', which is no method"):
        read_experiment(file, 'vanilla.pth')


def test_config_in_no_folder(file):
    file.write_text(FILE.replace("config = 'ltm", "config = 'no"))
    with pytest.raises(UserError, match='0 configs below configs are called no_efficientvit_b0'):
        read_experiment(file, 'vanilla.pth')


def test_from_scratch_vanilla_trains_like_all_others(file):
    scratch = FILE.replace("vanilla = 'efficientvit_b0_imagenette128'\n", '')
    file.write_text(scratch)
    with pytest.raises(UserError, match='tried.py has methods with 0 epochs: say in `vanilla`'):
        read_experiment(file)
    file.write_text(scratch.replace('epochs=(0, ))', 'epochs=(3, ))').replace('(0, 2)', '(2, 3)').split('claims')[0])
    experiment = read_experiment(file)
    assert experiment.vanilla == [] and all(cell.checkpoint is None for cell in experiment.cells)
    assert [(cell.epochs, cell.seed) for cell in experiment.cells if cell.label == 'vanilla'] == [
        (2, 0), (2, 1), (3, 0), (3, 1)]


def test_what_is_kept_beside_the_cells(file, tmp_path):
    assert saved_experiment(tmp_path) == {}
    file.write_text(FILE + "metric, batch_sizes, plot = 'accuracy/top5', (4, ), ['LTM']\n")
    experiment = read_experiment(file, 'vanilla.pth')
    assert experiment.batch_sizes == (4, )
    save_experiment(experiment, tmp_path)
    kept = saved_experiment(tmp_path)
    assert (kept['metric'], kept['claims']) == ('accuracy/top5', experiment.claims) and ' tried ' in kept['command']
    assert kept['plot'] == ['LTM']


@pytest.mark.parametrize('path', EXPERIMENTS, ids=lambda path: path.stem)
def test_experiments_of_the_project(path):
    experiment = read_experiment(path, 'vanilla.pth')
    assert all(config_path(config, ROOT / 'configs').exists() for config in experiment.vanilla)
    keys = [cell.key for cell in experiment.cells]
    assert len(set(keys)) == len(keys)
    for cell in experiment.cells:
        assert resolve(replace(cell, checkpoint=None)).cfg.model.backbone.merger == cell.merger


def test_list():
    done = subprocess.run([sys.executable, ROOT / 'tools/experiments/run.py', '--list'], capture_output=True, text=True)
    assert done.returncode == 0 and all(f'{path.stem}\n    ' in done.stdout for path in EXPERIMENTS)


def test_wrong_data_is_named_in_one_line_from_any_folder(tmp_path):
    checkpoint = tmp_path / 'vanilla.pth'
    torch.save(dict(state_dict=dict()), checkpoint)
    done = subprocess.run(
        [sys.executable, ROOT / 'tools/experiments/run.py', 'mobilevit_restoration', '--checkpoint', checkpoint,
         '--data-root', tmp_path / 'nowhere', '--out-dir', tmp_path / 'out'],
        capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert 'nowhere does not exist' in done.stderr.strip().splitlines()[-1]
    assert not (tmp_path / 'out').exists()
