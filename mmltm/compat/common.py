"""What the operators share: one floating type for all inputs, and the error for an operator without stand-in."""

from functools import reduce
from importlib.metadata import packages_distributions
from typing import NoReturn

import mmcv
import torch
from torch import Tensor


def promote(*tensors: Tensor) -> list[Tensor]:
    """Cast tensors to their common type, float32 at least.

    torchvision wants equal types and has few half-precision kernels on CPU. Computing in float32 under mixed precision
    also spares box coordinates the rounding that mmcv's half-precision kernels do.
    """
    dtype = reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)
    return [tensor.to(dtype) for tensor in tensors]


def unsupported(name: str, *args, **kwargs) -> NoReturn:
    """Refuse an mmcv operator, whatever its arguments, and name the command that compiles mmcv."""
    # The distribution and version at hand: upstream and fork share a name, and mmdet checks the version.
    distribution = packages_distributions().get('mmcv', ['onedl-mmcv'])[0]
    raise NotImplementedError(
        f"mmcv operator '{name}' needs a compiled mmcv, mmltm has no stand-in for it. Compile mmcv against "
        'the installed PyTorch with: pip install --no-build-isolation --no-cache-dir --no-deps '
        f'--force-reinstall --no-binary {distribution} {distribution}=={mmcv.__version__}')
