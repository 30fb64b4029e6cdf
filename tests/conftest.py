"""Fixtures that several test folders need."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import settings

import mmltm  # noqa: F401  (before mmdet, for its stand-in for mmcv's compiled operators)

# Timings say nothing on a shared machine; the examples are the same in every run.
settings.register_profile('mmltm', deadline=None, derandomize=True)
settings.load_profile('mmltm')

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items):
    """Tests that train in forks of this process come first: after some others PyTorch refuses gradients in a fork."""
    items.sort(key=lambda item: not item.module.__name__.startswith('tests.engine'))


@pytest.fixture(scope='session')
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope='session')
def shared() -> Path:
    """Folder of real data and reference values beside the repository; tests that need it skip without it."""
    path = ROOT.parent / 'shared'
    if not path.is_dir():
        pytest.skip('no ../shared beside the repository')
    return path


@pytest.fixture
def disk(tmp_path):
    """A disk of a size to be set: a folder, mounted in memory, and a function that takes a number of bytes."""
    folder = tmp_path / 'disk'
    folder.mkdir()

    def resize(size, *options):
        command = ['mount', '-t', 'tmpfs', '-o', ','.join([f'size={size}', *options]), 'tmpfs', folder]
        return subprocess.run(command, capture_output=True).returncode == 0

    if not resize(4096):
        pytest.skip('no right to mount')
    yield folder, lambda size: resize(size, 'remount')
    subprocess.run(['umount', '--lazy', folder], check=True)
