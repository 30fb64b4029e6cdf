"""One floating type for all inputs of an operator."""

from functools import reduce

import torch
from torch import Tensor


def promote(*tensors: Tensor) -> list[Tensor]:
    """Cast tensors to their common type, float32 at least.

    torchvision wants equal types and has few half-precision kernels on CPU. Computing in float32 under mixed
    precision also spares box coordinates the rounding that mmcv's half-precision kernels do.
    """
    dtype = reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)
    return [tensor.to(dtype) for tensor in tensors]
