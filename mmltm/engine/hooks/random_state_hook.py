"""Resuming a training bit for bit: mmengine saves no state of random number generators, this hook does."""

import torch
from mmengine.dist import all_gather, get_rank
from mmengine.hooks import Hook
from torch import Tensor

from mmltm.engine.random_states import get_random_states, set_random_states
from mmltm.engine.runner_utils import resumes, saves_after_iter
from mmltm.registry import HOOKS

KEY = 'random_states'


@HOOKS.register_module()
class RandomStateHook(Hook):
    """Saves random states in checkpoints, and sets them on resuming.

    A resumed run then equals the uninterrupted one from its checkpoint on, given deterministic kernels, if

    * it is epoch-based, resumed at an epoch's end, and its data loader has no worker processes, or workers
      that start afresh in every epoch (``persistent_workers=False``);
    * or it is iteration-based and its data loader has no worker processes, or no random transforms.

    Starting to iterate over the training data draws from a generator of its own, and after a validation the states
    before it are set again, for both come at other times in a resumed run. A checkpoint holds ``random_states``, plain
    tensors with a row for every rank, set only on resuming, and only on as many ranks as saved them.
    """
    # After the hooks that compute, before the CheckpointHook that saves.
    priority = 'LOW'

    def __init__(self) -> None:
        self._loader: torch.Generator | None = None
        #: Of all ranks, a row for each: taken by this run, and found in the checkpoint that it resumes from.
        self._taken: dict[str, Tensor] = {}
        self._resumed: dict[str, Tensor] = {}
        self._validating = False

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        if resumes(runner):  # not yet set: the runner still sets seeds after this
            self._resumed = checkpoint.get(KEY, {})

    def before_train(self, runner) -> None:
        loader = runner.train_dataloader
        if loader.generator is None:
            loader.generator = torch.Generator().manual_seed(runner.seed)
        self._loader = loader.generator
        if not self._resumed:
            return
        ranks = len(self._resumed['torch'])
        if ranks == runner.world_size:
            set_random_states(_of_this_rank(self._resumed), loader.generator)
        else:
            runner.logger.warning(f'Random states of {ranks} processes in the checkpoint, but '
                                  f'{runner.world_size} run now: they are left, and random numbers differ '
                                  'from those of an uninterrupted run')
        self._resumed = {}

    def after_train_epoch(self, runner) -> None:
        self._take()

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        if saves_after_iter(runner):
            self._take()

    def before_val(self, runner) -> None:
        self._validating = self._loader is not None
        if self._validating:
            self._take()

    def after_val(self, runner) -> None:
        if self._validating:
            set_random_states(_of_this_rank(self._taken))
            self._validating = False

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        # Only one rank gets here, hence states of several are taken before.
        if runner.world_size == 1 and not self._validating:
            self._take()
        checkpoint[KEY] = self._taken

    def _take(self) -> None:
        states = get_random_states(self._loader)
        self._taken = {key: torch.stack(all_gather(state)) for key, state in states.items()}


def _of_this_rank(states: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: rows[get_rank()] for key, rows in states.items()}
