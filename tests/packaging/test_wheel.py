"""A wheel in an environment of its own, used in an empty folder as the documentation says.

    python -m pytest -m nightly tests/packaging/test_wheel.py
"""

import os
import subprocess
import sys
import sysconfig

import pytest

pytestmark = pytest.mark.nightly
CONFIG = """
_base_ = 'mmltm::mini/mask_rcnn_ltm_effvit_mini.py'
model = dict(backbone=dict(ratio=0.5))
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=3, val_interval=3)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=3))
"""


@pytest.fixture(scope='module')
def run(root, tmp_path_factory):
    """A function that runs a command line in one empty folder, with the wheel and mim installed; it must succeed."""
    folder = tmp_path_factory.mktemp('empty')
    env = tmp_path_factory.mktemp('env')
    site = env / 'lib' / f'python{sys.version_info.major}.{sys.version_info.minor}' / 'site-packages'
    variables = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    variables.update(PATH=f'{env}/bin:{os.environ["PATH"]}', OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')

    def call(*command):
        done = subprocess.run([str(part) for part in command], cwd=folder, env=variables, capture_output=True,
                              text=True)
        assert not done.returncode, (command, done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout

    wheels = tmp_path_factory.mktemp('wheels')
    # What the archive of sources holds must be enough.
    build = 'from setuptools import build_meta; import sys; print(build_meta.build_sdist(sys.argv[1]))'
    subprocess.run([sys.executable, '-c', build, str(wheels)], cwd=root, check=True, capture_output=True)
    pip = [sys.executable, '-m', 'pip', '-q', '--disable-pip-version-check']
    call(*pip, 'wheel', '--no-deps', '--no-build-isolation', '-w', wheels, next(wheels.glob('*.tar.gz')))
    call(sys.executable, '-m', 'venv', '--without-pip', env)
    # All else comes from the environment at hand; its checkout of mmltm does not, as what a .pth file names reads none.
    (site / 'others.pth').write_text(sysconfig.get_path('purelib'))
    # mim without what its other commands need, and the last setuptools with the pkg_resources that it imports.
    call(*pip, '--python', env / 'bin' / 'python', 'install', '--no-deps', next(wheels.glob('*.whl')), 'openmim',
         'colorama', 'requests', 'tabulate', 'setuptools<81')
    return call


def test_train_test_infer_export(run):
    assert '.mim' in run('python', '-c', 'from mmltm import mim; print(mim.FOLDER)')
    run('mmltm', 'make_mini_coco', 'generate', 'data/mini_coco', '--num-train', 8, '--num-val', 2)
    run('python', '-c', f'open("mine.py", "w").write({CONFIG!r})')
    run('mmltm', 'train', 'mine.py')
    checkpoint = 'work_dirs/mine/iter_3.pth'
    assert 'coco/segm_mAP' in run('mmltm', 'test', 'mine.py', checkpoint)
    run('mmltm', 'infer', 'data/mini_coco/val2017', 'mine.py', checkpoint, '--out-dir', 'out')
    run('mmltm', 'export', 'mine.py', checkpoint, 'mine.onnx')
    # mmdet's own tool, whose mmcv has no compiled operators
    assert 'coco/segm_mAP' in run('mmltm', 'mmdet::test', 'mine.py', checkpoint)
    assert 'Training finished successfully' in run('mim', 'train', 'mmltm', 'mine.py')
