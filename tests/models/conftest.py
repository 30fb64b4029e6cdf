"""What tests of several models need."""

import pytest
import torch


@pytest.fixture(scope='session')
def randomize():
    """A function that gives every tensor of a model values of its own.

    What is zero, one or the identity at the start, would hide that it has gone astray.
    """

    @torch.no_grad()
    def randomize(model):
        for name, value in model.state_dict().items():
            if name.endswith('running_var'):
                value.uniform_(0.5, 2)
            elif value.dim() == 1 and name.endswith('.weight'):  # of a norm
                value.uniform_(0.5, 1.5)
            elif value.is_floating_point():
                value.add_(torch.randn_like(value), alpha=0.1 if value.dim() == 1 else 0.02)
        return model

    return randomize
