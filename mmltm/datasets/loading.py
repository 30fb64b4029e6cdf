"""Loading of images that may be corrupt, and a counter that workers of a data loader share with the main process."""

import functools
import logging
from typing import Any

import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from torch.utils.data import get_worker_info

from mmltm.registry import TRANSFORMS

# Far above any number of workers; more would share slots, which is harmless but for lost updates.
_SLOTS = 1024


class SkipCounter:
    """Counts events in any worker process, forked or spawned; the sum is read in the main process.

    Every worker adds to a slot of its own in shared memory, so there is nothing to lock.
    """

    def __init__(self) -> None:
        self._counts = torch.zeros(_SLOTS, dtype=torch.int64).share_memory_()

    def add(self) -> None:
        """Counts one event of this process."""
        worker = get_worker_info()
        self._counts[worker.id % _SLOTS if worker else 0] += 1

    def total(self) -> int:
        """Number of events so far, over all workers."""
        return int(self._counts.sum())

    def __deepcopy__(self, memo: dict) -> 'SkipCounter':
        return self  # a copied data set still counts here


@functools.cache
def skip_counter() -> SkipCounter:
    """The counter of this process and of its workers; a spawned one has it in the pickled transform, not from here."""
    return SkipCounter()


@TRANSFORMS.register_module()
class LoadImageOrSkip(LoadImageFromFile):
    """mmcv's ``LoadImageFromFile`` for training, which leaves out images that cannot be read or decoded.

    It returns None for such an image, whereupon the dataset takes another sample at random. Each file is named once per
    worker in a warning; how many samples were left out is counted in
    :func:`skip_counter` and logged by :class:`~mmltm.engine.hooks.SkippedImagesHook`.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._counter = skip_counter()
        self._named: set[str] = set()

    def transform(self, results: dict) -> dict | None:
        """Loads ``results['img_path']``; returns None if that fails."""
        path = results['img_path']
        reason = 'ignored as empty'
        try:
            loaded = super().transform(results)
        except Exception as error:  # storage and decoding backends each have their own
            loaded, reason = None, ' '.join(str(error).split())
        if loaded is None:
            self._counter.add()
            if path not in self._named:
                self._named.add(path)
                # mmengine passes on only errors from ranks other than the first.
                level = logging.WARNING if is_main_process() else logging.ERROR
                print_log(f'Skipped image {path}, which cannot be loaded ({reason}); another takes its place.',
                          logger='current', level=level)
        return loaded


def skip_corrupt_images(cfg: Config) -> None:
    """Lets training leave out images that cannot be decoded, whatever the config's pipelines, in place.

    Puts :class:`LoadImageOrSkip` in place of ``LoadImageFromFile`` in the training set, its wrappers and the hooks that
    switch pipelines, and adds the hook that logs the count.
    """
    def replace_in(value: Any) -> None:
        if isinstance(value, dict):
            if value.get('type') in ('LoadImageFromFile', 'mmcv.LoadImageFromFile', LoadImageFromFile):
                value['type'] = 'mmltm.LoadImageOrSkip'
            value = list(value.values())
        if isinstance(value, (list, tuple)):
            for item in value:
                replace_in(item)

    hooks = cfg.get('custom_hooks') or []
    replace_in([cfg.train_dataloader, hooks])
    cfg.custom_hooks = [*hooks, dict(type='mmltm.SkippedImagesHook')]
