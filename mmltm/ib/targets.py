"""The targets of a batch, checked once for all layers."""

from typing import NamedTuple, Union

import torch
from torch import Tensor

from .inputs import target_distribution


class BatchTargets(NamedTuple):
    """Target distributions of a batch over those classes alone that occur in it.

    A batch meets few of many classes: with 1000 classes and one-hot targets of 32 images, sums over the
    classes at hand take a thirtieth of the work. To know them the host must look at the values, which on a
    GPU it should do once a batch, not once a layer.

    Attributes:
        classes (Tensor): (k,) indices of the classes with a positive share, ascending.
        shares (Tensor): (n, k), p_i(y) of these classes.
    """
    classes: Tensor
    shares: Tensor

    @classmethod
    def of(cls, targets: Union[Tensor, 'BatchTargets'], num_classes: int) -> 'BatchTargets':
        """From (n,) class indices or (n, C) distributions.

        Raises:
            ValueError: As :func:`target_distribution`.
        """
        if isinstance(targets, BatchTargets):
            return targets
        p = target_distribution(targets, num_classes)
        classes = (p > 0).any(0).nonzero().flatten()
        return cls(classes, p[:, classes])

    def to(self, device: torch.device) -> 'BatchTargets':
        return BatchTargets(self.classes.to(device), self.shares.to(device))
