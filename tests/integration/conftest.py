"""Makes ``mixtures`` importable for tests."""

import sys
from pathlib import Path

import pytest
import torch

import mmltm  # noqa: F401  (before mmdet, for its stand-in for mmcv's compiled operators)


@pytest.fixture(autouse=True, scope='session')
def one_thread():
    """Times that do not depend on how many cores are free."""
    torch.set_num_threads(1)
