"""Fixed projections of token features, which bound the memory of class statistics.

Not in the paper, whose statistics are exact: C P D floats a layer, 5 GB over the layers of a ViT-B with 1000
classes.
"""

import torch
import torch.nn as nn
from torch import Tensor


def orthogonal_projection(embed_dims: int, stat_dim: int, seed: int = 0) -> Tensor:
    """Random R with R^T R = (D / d) I, so that E ||x R||^2 = ||x||^2 and E <x R, y R> = <x, y>.

    The subspace of Johnson and Lindenstrauss, "Extensions of Lipschitz mappings into a Hilbert space" (1984).

    Args:
        embed_dims (int): D.
        stat_dim (int): d, at most D.
        seed (int): Of the random numbers, which are drawn on the CPU, whatever the device. Defaults to 0.

    Returns:
        Tensor: (D, d), float32.
    """
    generator = torch.Generator('cpu').manual_seed(seed)
    matrix = torch.empty(embed_dims, stat_dim, dtype=torch.float32, device='cpu')
    return nn.init.orthogonal_(matrix, gain=(embed_dims / stat_dim) ** 0.5, generator=generator)


def principal_projection(covariance: Tensor, stat_dim: int) -> Tensor:
    """Principal directions: the d eigenvectors of the largest eigenvalues, so that R^T R = I.

    Args:
        covariance (Tensor): (D, D), symmetric, in any scale.
        stat_dim (int): d, at most D.

    Returns:
        Tensor: (D, d).
    """
    return torch.linalg.eigh(covariance).eigenvectors[:, -stat_dim:]
