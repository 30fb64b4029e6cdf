"""Sums over the processes of a distributed run; without one nothing happens."""

import torch
import torch.distributed as dist
from torch import Tensor


def sum_over_ranks(*tensors: Tensor) -> int:
    """Sum tensors over all ranks, in place; returns the number of ranks. Collective."""
    if not (dist.is_available() and dist.is_initialized()):
        return 1
    for tensor in tensors:
        dist.all_reduce(tensor)
    return dist.get_world_size()


def mean_over_ranks(mean: Tensor, weight: Tensor) -> Tensor:
    """Mean over the samples of all ranks from each rank's own, in one message. Collective.

    Args:
        mean (Tensor): Of this rank's samples, any shape.
        weight (Tensor): Scalar, their total weight; ranks without any weight take no part.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return mean
    message = torch.cat([(weight * mean).flatten(), weight.reshape(1).to(mean.dtype)])
    dist.all_reduce(message)
    return (message[:-1] / message[-1].clamp_min(torch.finfo(mean.dtype).tiny)).view_as(mean)
