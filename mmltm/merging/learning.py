"""Class statistics in a training loop of one's own; in mmengine's ``IBStatisticsHook`` does it.

    with class_targets(model, labels):          # every training batch
        loss = criterion(model(images), labels)
    loss.backward()
    ...
    finish_epoch(model)                         # centroids after the first epoch, steps from the third on
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from mmltm.ib import BatchTargets, ClassCentroids

from .ltm import LTM


@contextmanager
def class_targets(model: nn.Module, targets: Tensor | BatchTargets, gathering: bool = False) -> Iterator[None]:
    """A context for one forward pass in training mode: its tokens go into the statistics of these classes.

    Args:
        model (nn.Module): With masks that keep class statistics, ``num_classes`` of their merger.
        targets (Tensor or BatchTargets): (B,) indices or (B, C) distributions.
        gathering (bool): In evaluation mode, too, as in two passes before the first step. Defaults to False.
    """
    masks = [module for module in model.modules() if isinstance(module, LTM)]
    for mask in masks:
        mask.targets, mask.gathering = targets, gathering
    try:
        yield
    finally:
        for mask in masks:
            mask.targets, mask.gathering = None, False


def finish_epoch(model: nn.Module) -> None:
    """Turn the sums of an epoch into statistics, over all ranks."""
    for module in model.modules():
        if isinstance(module, ClassCentroids):
            module.finish_epoch()
