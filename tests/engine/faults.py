"""What goes wrong in runs of the tools: a process that ends itself by SIGKILL, at a moment that the environment names.

``FATE='phase count delay'``: as long after a phase has been entered for the count-th time; of 'writing' the delay is
the share of a file that is there. ``FATE_RANK`` and ``FATE_LIFE``, how often torchrun has restarted it, may say whose.
"""

import os
import runpy
import signal
import socket
import sys
import threading
import time
import traceback
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


def fork(output, function, *arguments):
    """Starts a function in a fork of this process, which writes to the file ``output``; returns its id."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        sys.stdout = sys.stderr = open(output, 'a', buffering=1)
        function(*arguments)
        code = 0
    except SystemExit as error:
        print(error)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def train(root, config, folder, *options, **environment):
    """Starts tools/train.py in a fork, which goes on from what is in ``folder``; returns its id."""

    def main():
        os.environ.update(environment)
        sys.argv = ['train.py', str(config), '--work-dir', str(folder), '--resume', *options]
        sys.path.insert(0, str(root / 'tools'))
        runpy.run_path(str(root / 'tools' / 'train.py'), run_name='__main__')

    folder.mkdir(exist_ok=True)
    return fork(folder / 'output', main)


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def train_ranks(ranks, root, config, folder, *options, **environment):
    """The same by several processes of one job."""
    job = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free_port()), WORLD_SIZE=str(ranks), **environment)
    return [train(root, config, folder, '--launcher', 'pytorch', *options, RANK=str(rank), LOCAL_RANK=str(rank), **job)
            for rank in range(ranks)]


def status(process):
    """How a process has ended: its exit code, or less the signal's number."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
