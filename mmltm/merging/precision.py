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
