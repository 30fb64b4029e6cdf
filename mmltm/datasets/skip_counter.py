"""A counter that the workers of a data loader share with the training process."""

import functools

import torch
from torch.utils.data import get_worker_info

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
