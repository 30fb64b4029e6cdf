"""Logs how many corrupt images training has left out."""

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook

from mmltm.datasets.loading import skip_counter
from mmltm.registry import HOOKS


@HOOKS.register_module()
class SkippedImagesHook(Hook):
    """Logs after an epoch how many images :class:`~mmltm.datasets.LoadImageOrSkip` left out, over workers and ranks."""

    def __init__(self) -> None:
        self._before = 0

    def before_train_epoch(self, runner) -> None:
        self._before = skip_counter().total()

    def after_train_epoch(self, runner) -> None:
        skipped = torch.tensor(skip_counter().total() - self._before)
        all_reduce(skipped)
        if skipped:
            runner.logger.warning(f'Corrupt images skipped in epoch {runner.epoch + 1}: {int(skipped)}')
