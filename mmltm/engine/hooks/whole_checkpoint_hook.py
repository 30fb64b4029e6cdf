"""Saving checkpoints so that a run which ends at any moment loses nothing, and goes on as if it had not."""

import os.path as osp

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook

from mmltm.engine.runner_utils import is_epoch_based, resumes
from mmltm.engine.whole_files import WholeFileBackend
from mmltm.registry import HOOKS

VALIDATED = 'last_validation'  # mmengine's logs list what begins with val


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook`` for runs that may be killed; the tools put it in its place.

    * Files are written whole or not at all (:class:`~mmltm.engine.whole_files.WholeFileBackend`), ``last_checkpoint``
      among them, and an outdated checkpoint is removed only when the new one is there. A disk thus needs room for one
      more than ``max_keep_ckpts``.
    * mmengine saves before it validates, and leaves out that validation on resuming. This hook makes up for it, so that
      metrics, the best checkpoint and schedulers that follow a metric are those of an uninterrupted run.

    Arguments are those of ``CheckpointHook``.
    """

    def before_train(self, runner) -> None:
        super().before_train(runner)
        self._outdated: list[str] = []
        self._meta: dict = {}
        # What mmengine would remove before it saves.
        self.file_backend.remove = self.file_backend.rmtree = self._outdated.append
        if resumes(runner):
            self.last_ckpt = runner.message_hub.runtime_info.get('last_ckpt')  # saved anew if it is the best
            if self._lacks_validation(runner):
                runner.logger.info('The checkpoint was saved before its validation, which comes first')
                runner.val_loop.run()

    def after_val_epoch(self, runner, metrics) -> None:
        runner.message_hub.update_info(VALIDATED, runner.iter)
        super().after_val_epoch(runner, metrics)
        self._remove_outdated()

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        checkpoint['meta'].update(self._meta)  # after a validation mmengine's FlexibleRunner says one epoch too many

    def _save_checkpoint_with_step(self, runner, step, meta) -> None:
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                outdated = self.filename_tmpl.format(self.keep_ckpt_ids.popleft())
                self._outdated.append(self.file_backend.join_path(self.out_dir, outdated))
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        self._meta = dict(meta)
        runner.save_checkpoint(
            self.out_dir, name, self.file_client_args, save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler, meta=meta, by_epoch=self.by_epoch,
            backend_args=self.backend_args, **self.args)
        self._meta = {}
        if is_main_process():
            WholeFileBackend().put_text(self.last_ckpt, osp.join(runner.work_dir, 'last_checkpoint'))
            self._remove_outdated()

    def _remove_outdated(self) -> None:
        kept = {self.last_ckpt, *getattr(self, 'best_ckpt_path_dict', {}).values(),
                getattr(self, 'best_ckpt_path', None)}
        backend = type(self.file_backend)
        while self._outdated:
            path = self._outdated.pop()
            if path not in kept and is_main_process():
                (backend.rmtree if self.file_backend.isdir(path) else backend.remove)(self.file_backend, path)

    @staticmethod
    def _lacks_validation(runner) -> bool:
        loop = runner.train_loop
        if runner.val_loop is None or runner.message_hub.runtime_info.get(VALIDATED) == runner.iter:
            return False
        done, last = (loop.epoch, loop.max_epochs) if is_epoch_based(runner) else (loop.iter, loop.max_iters)
        loop._decide_current_val_interval()
        return 0 < done >= loop.val_begin and (done % loop.val_interval == 0 or done == last)
