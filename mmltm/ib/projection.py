"""Fixed projections of token features, which bound the memory of class statistics.

Not in the paper, whose statistics are exact: C P D floats a layer, 5 GB over the layers of a ViT-B with 1000 classes.
"""

import torch
import torch.nn as nn
from torch import Tensor


def orthogonal_projection(embed_dims: int, stat_dim: int, seed: int = 0) -> Tensor:
    """Random R (D, d), d <= D, float32, with R^T R = (D / d) I, so that E ||x R||^2 = ||x||^2.

    The subspace of Johnson and Lindenstrauss, "Extensions of Lipschitz mappings into a Hilbert space" (1984). Drawn
    on the CPU, whatever the device.
    """
    generator = torch.Generator('cpu').manual_seed(seed)
    matrix = torch.empty(embed_dims, stat_dim, dtype=torch.float32, device='cpu')
    return nn.init.orthogonal_(matrix, gain=(embed_dims / stat_dim) ** 0.5, generator=generator)


def principal_projection(covariance: Tensor, stat_dim: int) -> Tensor:
    """Principal directions, (D, d): eigenvectors of the d largest eigenvalues of (D, D), so that R^T R = I."""
    return torch.linalg.eigh(covariance).eigenvectors[:, -stat_dim:]
