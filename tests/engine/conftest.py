"""Makes ``small_runs`` importable for tests, as it is for the scripts beside it."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True, scope='session')
def one_thread():
    """Runs on one core, and in one order of additions."""
    torch.set_num_threads(1)
