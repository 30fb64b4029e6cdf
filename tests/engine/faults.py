"""What goes wrong in runs of the tools: a process that ends itself by SIGKILL, at a moment that the environment names.

``FATE='phase count delay'``: as long after a phase has been entered for the count-th time; of 'writing' the delay is the
share of a file that is there. ``FATE_RANK`` and ``FATE_LIFE``, how often torchrun has started it, may say whose it is.
"""

import os
import signal
import threading
import time
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

PHASES = ('statistics', 'train', 'validation', 'writing')


def die():
    os.kill(os.getpid(), signal.SIGKILL)


@HOOKS.register_module(force=True)
class Fate(Hook):
    """Counts what happens, and strikes. Does nothing without FATE."""

    priority = 'VERY_HIGH'

    def before_run(self, runner):
        mine = all(os.environ.get(name, value) == value for name, value in (
            ('FATE_RANK', str(runner.rank)), ('FATE_LIFE', os.environ.get('TORCHELASTIC_RESTART_COUNT', '0'))))
        if 'FATE' not in os.environ or not mine:
            self.enter = lambda phase: None
            return
        self.phase, count, delay = os.environ['FATE'].split()
        self.left, self.delay, self.folder = int(count), float(delay), runner.work_dir
        synchronize = os.fsync

        def written(file):
            synchronize(file)
            self.enter('writing', file)

        os.fsync = written
        runner.model.register_forward_pre_hook(
            lambda model, _: None if runner.iter or model.training else self.enter('statistics'))
        if hasattr(runner.model, 'backbone'):
            runner.model.backbone.register_forward_pre_hook(
                lambda model, _: None if runner.iter or model.training else self.enter('statistics'))

    def enter(self, phase, file=None):
        if phase != self.phase:
            return
        self.left -= 1
        if self.left:
            return
        Path(self.folder, 'struck').touch()
        if file is not None:
            os.ftruncate(file, int(self.delay * os.fstat(file).st_size))
            die()
        threading.Thread(target=lambda: (time.sleep(self.delay / 10), die()), daemon=True).start()

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.enter('train')

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        self.enter('validation')
