"""Checks of features, and targets as distributions.

The paper writes labels as an indicator; here a sample carries a distribution over the classes, of which the indicator
is a special case, so that Mixup, CutMix, label smoothing and images with several objects need no code of their own.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def check_batch(name: str, features: Tensor) -> None:
    """Refuse an empty batch and features (n, ...) that are not finite, by a ValueError."""
    if features.numel() == 0:
        raise ValueError(f'{name}: empty batch, shape {tuple(features.shape)}')
    # A sum is finite only if every term is; unlike isfinite().all() it needs no second tensor of that size.
    if not torch.isfinite(features.sum()):
        raise ValueError(f'{name}: NaN or infinite values in a tensor of shape {tuple(features.shape)}')


def check_rows(**tensors: Tensor) -> None:
    """Refuse tensors that differ in their number of samples, by a ValueError."""
    if len({tensor.shape[0] for tensor in tensors.values()}) > 1:
        shapes = ', '.join(f'{name} {tuple(tensor.shape)}' for name, tensor in tensors.items())
        raise ValueError(f'different numbers of samples: {shapes}')


def target_distribution(targets: Tensor, num_classes: int | None = None) -> Tensor:
    """Targets as distributions over the classes, p_i(y), (n, C): in the default dtype for indices, else as given.

    Args:
        targets (Tensor): (n,) integer class indices, or (n, C) floating distributions. The sum of a row is the weight
            of the sample: one, or zero for a sample that is to take no part (an image with no object).
        num_classes (int, optional): C. Defaults to the width of distributions, and to the largest index plus one.
    """
    shape = tuple(targets.shape)
    if targets.numel() == 0:
        raise ValueError(f'targets: empty batch, shape {shape}')
    if targets.ndim == 1 and not targets.is_floating_point() and targets.dtype != torch.bool:
        lowest, highest = torch.stack(targets.aminmax()).tolist()
        num_classes = highest + 1 if num_classes is None else num_classes
        if lowest < 0 or highest >= num_classes:
            raise ValueError(f'targets of shape {shape}: class index {lowest if highest < num_classes else highest} '
                             f'is outside the {num_classes} classes 0 to {num_classes - 1}')
        return F.one_hot(targets.long(), num_classes).to(torch.get_default_dtype())
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
