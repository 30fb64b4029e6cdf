"""What every function of this package does with its inputs: precision, checks, targets.

The paper writes labels as an indicator; here a sample carries a distribution over the classes, of which the
indicator is a special case, so that Mixup, CutMix, label smoothing and images with several objects need no
code of their own.
"""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def full_precision(function: Callable) -> Callable:
    """Decorator: compute outside autocast, in the dtype of the first tensor and in no less than float32.

    Squared distances of features overflow float16 from a norm of 256 on, and phi is an exponential of them.
    All floating tensors among the arguments are brought to that one dtype.
    """

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        first = next((value for value in (*args, *kwargs.values()) if _is_floating(value)), None)
        if first is None:
            raise ValueError(f'{function.__name__} needs floating tensors')
        dtype = torch.promote_types(first.dtype, torch.float32)

        def cast(value):
            return value.to(dtype) if _is_floating(value) and value.dtype != dtype else value

        args, kwargs = tuple(map(cast, args)), {key: cast(value) for key, value in kwargs.items()}
        device = first.device.type
        # Most calls are made outside autocast, which costs more to switch off than a small product; and devices that
        # know none (meta) must not be asked.
        if not (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):
            return function(*args, **kwargs)
        with torch.autocast(device, enabled=False):
            return function(*args, **kwargs)

    return wrapper


def _is_floating(value) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def check_batch(name: str, features: Tensor) -> None:
    """Refuse an empty batch and features that are not finite.

    Args:
        name (str): What the message calls the tensor.
        features (Tensor): (n, ...).

    Raises:
        ValueError: Names the tensor and its shape.
    """
    if features.numel() == 0:
        raise ValueError(f'{name}: empty batch, shape {tuple(features.shape)}')
    # A sum is finite only if every term is; unlike isfinite().all() it needs no second tensor of that size.
    if not torch.isfinite(features.sum()):
        raise ValueError(f'{name}: NaN or infinite values in a tensor of shape {tuple(features.shape)}')


def check_rows(**tensors: Tensor) -> None:
    """Refuse tensors that differ in their number of samples.

    Raises:
        ValueError: Names all tensors and their shapes.
    """
    if len({tensor.shape[0] for tensor in tensors.values()}) > 1:
        shapes = ', '.join(f'{name} {tuple(tensor.shape)}' for name, tensor in tensors.items())
        raise ValueError(f'different numbers of samples: {shapes}')


def target_distribution(targets: Tensor, num_classes: int | None = None) -> Tensor:
    """Targets as distributions over the classes, p_i(y).

    Args:
        targets (Tensor): (n,) integer class indices, or (n, C) floating distributions. The sum of a row is
            the weight of the sample: one, or zero for a sample that is to take no part (an image with no
            object).
        num_classes (int, optional): C. Defaults to the width of distributions, and to the largest index plus
            one.

    Returns:
        Tensor: (n, C), in the default dtype for indices, as given for distributions.

    Raises:
        ValueError: An index outside [0, C) or a negative or NaN probability (the first offending one is
            named), a wrong dtype, a wrong number of columns, an empty batch.
    """
    shape = tuple(targets.shape)
    if targets.numel() == 0:
        raise ValueError(f'targets: empty batch, shape {shape}')
    if targets.ndim == 1 and not targets.is_floating_point() and targets.dtype != torch.bool:
        return _one_hot(targets.long(), num_classes)
    if targets.ndim != 2 or not targets.is_floating_point():
        raise ValueError('targets must be (n,) integer class indices or (n, C) floating distributions, '
                         f'not {shape} of {targets.dtype}')
    if num_classes not in (None, shape[1]):
        raise ValueError(f'targets of shape {shape} are distributions over {shape[1]} classes, '
                         f'but there are {num_classes}')
    valid = (targets >= 0) & (targets < torch.inf)
    if not valid.all():
        row, column = (~valid).nonzero()[0].tolist()
        raise ValueError(f'targets of shape {shape}: the probability of class {column} in row {row} is '
                         f'{targets[row, column].item()}')
    return targets


def _one_hot(targets: Tensor, num_classes: int | None) -> Tensor:
    lowest, highest = torch.stack(targets.aminmax()).tolist()
    num_classes = highest + 1 if num_classes is None else num_classes
    if lowest < 0 or highest >= num_classes:
        wrong = highest if highest >= num_classes else lowest
        raise ValueError(f'targets of shape {tuple(targets.shape)}: class index {wrong} is outside the '
                         f'{num_classes} classes 0 to {num_classes - 1}')
    return F.one_hot(targets, num_classes).to(torch.get_default_dtype())
