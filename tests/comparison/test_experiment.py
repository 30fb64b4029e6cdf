"""Experiments: files of cells and claims, and what their results say of the claims."""

import subprocess
import sys
from pathlib import Path

import pytest

from mmltm.comparison import save_result
from mmltm.comparison.cell_config import cell_config
from mmltm.comparison.experiment import claims_table, judged, read_experiment, save_claims
from mmltm.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = sorted((ROOT / 'tools/reproduce/experiments').glob('*.py'))

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
        'tried', 'A title.', 'efficientvit_b0_imagenette128')
    # LTM off the shelf is the same for all seeds.
    assert [(cell.label, cell.ratio, cell.epochs, cell.seed) for cell in experiment.cells] == [
        ('vanilla', None, 0, 0), ('LTM', 0.7, 0, 0), ('LTM', 0.7, 2, 0), ('LTM', 0.7, 2, 1), ('LTM', 0.5, 0, 0),
        ('LTM', 0.5, 2, 0), ('LTM', 0.5, 2, 1), ('AvgPool', 0.5, 0, 0)]
    assert all(cell.checkpoint == 'vanilla.pth' and cell.overrides == {'model.backbone.restore': 'none'}
               for cell in experiment.cells)
    assert experiment.cells[1].merger == dict(type='LTM', ratio=0.7)
    claim, = experiment.claims
    assert claim['ours'] == [cell.key for cell in experiment.cells[5:7]]


def test_claim_about_nothing(file):
    file.write_text(FILE.replace("label='AvgPool', ratio=0.5)", "label='AvgPool', ratio=0.7)"))
    with pytest.raises(UserError, match='a claim is about .*AvgPool'):
        read_experiment(file, 'vanilla.pth')


# Of 100 images: d_i is 1 for 10 (or 30) of them and 0 for the others; the variance is that of such numbers.
@pytest.mark.parametrize('ours, theirs, points, error, verdict', [
    ('1' * 60 + '0' * 40, '1' * 30 + '0' * 70, 30., 4.606, 'held'),
    ('1' * 30 + '0' * 70, '1' * 60 + '0' * 40, -30., 4.606, 'not held'),
    ('1' * 51 + '0' * 49, '1' * 50 + '0' * 50, 1., 1., 'undecided at this budget'),
    ('1' * 50 + '0' * 50, None, None, None, 'not measured'),
])
def test_verdicts(file, tmp_path, ours, theirs, points, error, verdict):
    experiment = read_experiment(file, 'vanilla.pth')
    save_claims(experiment, tmp_path)
    claim, = experiment.claims
    for side, correct in (('ours', ours), ('theirs', theirs)):
        for key in claim[side]:
            save_result(tmp_path / 'cells' / f'{key}.json', dict(
                kind='cell', key=key, status='failed' if correct is None else 'done', correct=correct))
    row, = judged(tmp_path)
    assert row['verdict'] == verdict and row['points'] == (None if points is None else pytest.approx(points))
    assert row['standard_error'] == (None if error is None else pytest.approx(error, abs=1e-3))
    assert f'| {verdict} |' in claims_table(tmp_path)


def test_no_claims_no_table(tmp_path):
    assert claims_table(tmp_path) == ''


@pytest.mark.parametrize('path', EXPERIMENTS, ids=lambda path: path.stem)
def test_experiments_of_the_project(path):
    experiment = read_experiment(path, 'vanilla.pth')
    assert (ROOT / 'configs' / f'{experiment.vanilla}.py').exists()
    keys = [cell.key for cell in experiment.cells]
    assert len(set(keys)) == len(keys)
    for cell in experiment.cells:
        assert cell_config(cell).model.backbone.merger == cell.merger


def test_list():
    done = subprocess.run([sys.executable, ROOT / 'tools/reproduce/run.py', '--list'], capture_output=True, text=True)
    assert done.returncode == 0 and all(path.stem in done.stdout for path in EXPERIMENTS)


def test_wrong_data_is_named_in_one_line_from_any_folder(tmp_path):
    checkpoint = tmp_path / 'vanilla.pth'
    checkpoint.touch()
    done = subprocess.run(
        [sys.executable, ROOT / 'tools/reproduce/run.py', 'mobilevit_restoration', '--checkpoint', checkpoint,
         '--data-root', tmp_path / 'nowhere', '--out-dir', tmp_path / 'out'],
        capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert 'nowhere does not exist' in done.stderr.strip().splitlines()[-1]
