"""Fixtures that several test folders need."""

from pathlib import Path

import pytest
from hypothesis import settings

import mmltm  # noqa: F401  (before mmdet, for its stand-in for mmcv's compiled operators)

# Timings say nothing on a shared machine; the examples are the same in every run.
settings.register_profile('mmltm', deadline=None, derandomize=True)
settings.load_profile('mmltm')

ROOT = Path(__file__).resolve().parents[1]


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
