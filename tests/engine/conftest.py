"""Makes the helpers in this folder importable for tests, as they are for the scripts beside them."""

import sys
from pathlib import Path

import pytest
import torch

import mmltm  # noqa: F401  (before mmdet, for its stand-in for mmcv's compiled operators)


@pytest.fixture(autouse=True, scope='session')
def one_thread():
    """Runs on one core, and in one order of additions."""
    torch.set_num_threads(1)
