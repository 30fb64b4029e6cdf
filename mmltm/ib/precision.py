"""Float32 islands inside automatic mixed precision."""

import contextlib
import functools
from collections.abc import Callable

import torch
from torch import Tensor


def autocast_off(x: Tensor) -> contextlib.AbstractContextManager:
    """Context without autocast on the device of ``x``."""
    device = x.device.type
    # Where it is off anyway, switching it off would cost more than a small product; devices that know none (meta)
    # must not be asked.
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return contextlib.nullcontext()


def at_least_float32(x: Tensor) -> Tensor:
    """A floating tensor in float32, or in its own dtype where that is wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def full_precision(function: Callable) -> Callable:
    """Decorator: compute outside autocast, all floating tensors in the dtype of the first, at least float32.

    Squared distances of features overflow float16 from a norm of 256 on, and phi is an exponential of them.
    """

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        first = next((x for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and x.is_floating_point()), None)
        if first is None:
            raise ValueError(f'{function.__name__} needs floating tensors')
        dtype = torch.promote_types(first.dtype, torch.float32)

        def cast(value):
            wrong = isinstance(value, Tensor) and value.is_floating_point() and value.dtype != dtype
            return value.to(dtype) if wrong else value

        with autocast_off(first):
            return function(*map(cast, args), **{key: cast(value) for key, value in kwargs.items()})

    return wrapper
