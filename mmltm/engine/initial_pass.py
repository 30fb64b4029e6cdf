"""Class statistics before the first training step, as Algorithm 1 of the paper begins."""

import time
from collections.abc import Callable
from typing import Any

import torch
from mmengine.runner import Runner
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.utils.data import DataLoader, Subset

from mmltm.engine.random_states import get_random_states, set_random_states

#: What the two sweeps over the images are for: classes are assigned by centroids, which must be there before.
SWEEPS = ('centroids', 'Q(a|y)')
#: Seconds between two lines of progress in the log.
PROGRESS = 30.


@torch.no_grad()
def initial_pass(runner: Runner, model: Any, num_images: int | None, before: Callable[[list], None],
                 after: Callable[[], None], finish: Callable[[], None]) -> None:
    """Show a model training images in evaluation mode, twice; no weight and no random state of the training changes.

    Images are spread evenly over the training set and go through its pipeline. Every rank takes its share, all of them
    as many. Of a model with a ``backbone`` nothing else runs, unless it is sharded.

    Args:
        runner (Runner): Of the run, with its training data.
        model (nn.Module): Not wrapped.
        num_images (int, optional): At most so many, of all ranks together. None: the whole training set.
        before, after (Callable): Called before every batch with its data samples, and after it.
        finish (Callable): Called after each of the two sweeps.
    """
    loader: Any = _loader(runner, num_images)  # its data set has a length, which the type does not say
    count, total = len(loader.dataset) * runner.world_size, len(SWEEPS) * len(loader)
    title = 'IB statistics before the first step'
    runner.logger.info(f'{title}: {" and ".join(SWEEPS)} by {len(SWEEPS)} sweeps over {count} of '
                       f'{len(runner.train_dataloader.dataset)} training images, {total} batches of '
                       f'{loader.batch_size}, forward through the backbone only')
    states, training = get_random_states(), {module: module.training for module in model.modules()}
    begin = told = time.monotonic()
    model.eval()
    done = 0
    for _ in SWEEPS:
        for batch in loader:
            data = model.data_preprocessor(batch, True)
            before(data['data_samples'])
            with runner.optim_wrapper.optim_context(model):
                if isinstance(runner.model, FullyShardedDataParallel):  # which gathers the weights of what it calls
                    runner.model(**data, mode='tensor')
                elif hasattr(model, 'backbone'):
                    model.backbone(data['inputs'])
                else:
                    model(**data, mode='loss')
            after()
            done += 1
            if time.monotonic() - told >= PROGRESS:
                told = time.monotonic()
                runner.logger.info(f'{title}: batch {done} of {total}')
        finish()
    for module, mode in training.items():
        module.training = mode
    set_random_states(states)
    runner.logger.info(f'{title}: done in {time.monotonic() - begin:.1f} s')


def _loader(runner: Runner, num_images: int | None) -> DataLoader:
    """This rank's images in an order of its own, so that a batch of a data set sorted by classes has many of them."""
    train, ranks = runner.train_dataloader, runner.world_size
    size = len(train.dataset)
    share = max(1, min(num_images or size, size) // ranks)
    generator = torch.Generator().manual_seed(runner.seed)
    images = torch.randperm(share * ranks, generator=generator) * size // (share * ranks)
    return DataLoader(
        Subset(train.dataset, images[runner.rank::ranks].tolist()),
        batch_size=train.batch_size or train.batch_sampler.batch_size, num_workers=train.num_workers,
        collate_fn=train.collate_fn, worker_init_fn=train.worker_init_fn, pin_memory=train.pin_memory,
        generator=generator)
