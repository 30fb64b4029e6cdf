"""All tests of this folder run on one core."""

import pytest
import torch


@pytest.fixture(autouse=True, scope='session')
def one_thread():
    """Times that do not depend on how many cores are free."""
    torch.set_num_threads(1)
