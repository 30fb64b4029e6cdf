"""All tests of this folder run on one core."""

import pytest
import torch


@pytest.fixture(autouse=True, scope='session')
def one_thread():
    """Runs on one core, and in one order of additions."""
    torch.set_num_threads(1)
