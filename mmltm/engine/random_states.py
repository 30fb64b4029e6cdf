"""The states of all random number generators of a process, as plain tensors."""

import random

import numpy as np
import torch
from torch import Tensor


def get_random_states(loader: torch.Generator | None = None) -> dict[str, Tensor]:
    """States of Python's, NumPy's and PyTorch's global generators, on CPU and current GPU, and of a loader's."""
    version, words, gauss = random.getstate()
    numpy = np.random.get_state(legacy=False)
    states = {
        'python': torch.tensor([version, *words]),
        'python_gauss': torch.tensor(float('nan') if gauss is None else gauss, dtype=torch.float64),
        'numpy': torch.tensor([numpy['state']['pos'], numpy['has_gauss'], *numpy['state']['key'].tolist()]),
        'numpy_gauss': torch.tensor(numpy['gauss'], dtype=torch.float64),
        'torch': torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        states['cuda'] = torch.cuda.get_rng_state()
    if loader is not None:
        states['loader'] = loader.get_state()
    return states


def set_random_states(states: dict[str, Tensor], loader: torch.Generator | None = None) -> None:
    """Set what :func:`get_random_states` has returned, on a machine with or without a GPU."""
    # Generators read the storage of a state from its beginning, even if the tensor is a later part of it.
    states = {key: state.cpu().clone() for key, state in states.items()}
    version, *words = states['python'].tolist()
    gauss = states['python_gauss'].item()
    random.setstate((version, tuple(words), None if gauss != gauss else gauss))
    position, has_gauss, *keys = states['numpy'].tolist()
    np.random.set_state(('MT19937', np.array(keys, dtype=np.uint32), position, has_gauss, states['numpy_gauss'].item()))
    torch.set_rng_state(states['torch'])
    if 'cuda' in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states['cuda'])
    if loader is not None and 'loader' in states:
        loader.set_state(states['loader'])
