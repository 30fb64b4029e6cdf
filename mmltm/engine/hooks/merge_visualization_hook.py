"""Pictures of token merging in the course of a training."""

from typing import Any

import mmengine.dist as dist
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmltm.engine.runner_utils import is_epoch_based, unwrapped_model
from mmltm.errors import UserError
from mmltm.registry import HOOKS
from mmltm.visualization import MergeRecorder, Sheet, draw_sheets, to_picture, view


@HOOKS.register_module()
class MergeVisualizationHook(Hook):
    """Draws, in validations, what every block merges of a few images, by all backends of the run's visualizer.

    Images are named ``merging_0``, ``merging_1``, ... and are the same in every validation: spread evenly over those
    of the first rank. They show the target token that represents the image best, see
    :meth:`mmltm.visualization.RecordedMerge.representative`, of every block that merges; nothing is drawn as long as
    none does. The validation's own forward pass is watched, so this costs no further one.

    Args:
        interval (int): Epochs, or iterations in an iteration-based training, between two drawings at least; the first
            validation of a run is always drawn. Defaults to 1, every validation.
        num_images (int): Number of images. Defaults to 4.
        groups (bool): Draw which tokens go together, too; slow for large maps. Defaults to False.
    """

    def __init__(self, interval: int = 1, num_images: int = 4, groups: bool = False) -> None:
        if min(interval, num_images) < 1:
            raise UserError(f'interval and num_images must be positive, got {interval} and {num_images}')
        self.interval, self.num_images, self.groups = interval, num_images, groups
        self._last: int | None = None
        self._chosen: dict[int, list[int]] = {}
        self._recorder: MergeRecorder | None = None
        self._drawn = 0

    def before_val_epoch(self, runner: Runner) -> None:
        """Chooses the images, if it is time to draw."""
        self._chosen, self._drawn = {}, 0
        now = self._now(runner)
        if not dist.is_main_process() or self._last is not None and now - self._last < self.interval:
            return
        self._last = now
        self._recorder = MergeRecorder(unwrapped_model(runner))
        loader = runner.val_dataloader
        batch = loader.batch_size or loader.batch_sampler.batch_size
        count = max(1, min(len(loader.dataset) // dist.get_world_size(), len(loader) * batch))  # of this rank
        drawn = min(self.num_images, count)
        for index in range(drawn):
            number, item = divmod(index * count // drawn, batch)
            self._chosen.setdefault(number, []).append(item)

    def before_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if self._recorder is not None and batch_idx in self._chosen:
            self._recorder.start()

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if self._recorder is None or batch_idx not in self._chosen:
            return
        self._recorder.stop()
        merges = self._recorder.merges
        for item in self._chosen[batch_idx] if merges else ():
            picture = to_picture(data_batch['inputs'][item], self._recorder.input_size)
            sheet = Sheet('', picture, [view(merge, item, groups=self.groups) for merge in merges])
            runner.visualizer.add_image(f'merging_{self._drawn}', draw_sheets([sheet]), step=self._now(runner))
            self._drawn += 1

    def _now(self, runner: Runner) -> int:
        return runner.epoch if is_epoch_based(runner) else runner.iter
