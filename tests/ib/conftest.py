"""Random information-bottleneck problems, drawn from a seed."""

from types import SimpleNamespace

import pytest
import torch


def draw_problem(seed: int, *, samples: int = 12, classes: int = 4, tokens: int = 6, merged: int = 3,
                 channels: int = 2, scale: float = 1.0, soft: bool = False,
                 dtype: torch.dtype = torch.float64) -> SimpleNamespace:
    """Tokens, mask, merged tokens, input features, targets; every class has a sample if there are enough."""
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    labels = torch.randint(classes, (samples,), generator=generator)
    labels[:min(classes, samples)] = torch.arange(min(classes, samples))
    mask = randn(tokens, merged).softmax(0)
    features = scale * randn(samples, tokens, channels) + scale * randn(classes, 1, channels)[labels]
    targets = (2 * randn(samples, classes)).softmax(1) if soft else labels
    return SimpleNamespace(
        tokens=features, mask=mask, merged=torch.einsum('np,ind->ipd', mask, features),
        inputs=features.flatten(1), labels=labels, targets=targets, classes=classes, randn=randn)


@pytest.fixture(scope='session')
def problem():
    return draw_problem
