"""Float32 islands inside automatic mixed precision."""

import contextlib

import torch
from torch import Tensor


def autocast_off(x: Tensor) -> contextlib.AbstractContextManager:
    """Context without autocast on the device of ``x``; devices that know none (meta) need none."""
    device = x.device.type
    if torch.amp.is_autocast_available(device):
        return torch.autocast(device, enabled=False)
    return contextlib.nullcontext()


def at_least_float32(x: Tensor) -> Tensor:
    """A floating tensor in float32, or in its own dtype where that is wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
