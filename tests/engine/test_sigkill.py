"""A training killed in the middle of an epoch of statistics, and resumed, ends where the uninterrupted one
does.

Run as a script, this file is the training to kill.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from mmengine.hooks import Hook

from tests.engine.small_runs import assert_same, classifier, final_state, runner

# Epochs of four iterations; checkpoints after 2, 4, 6, ...; killed in the eighth iteration.
LOOP = dict(iters=13, checkpoint=dict(interval=2), hooks=[
    dict(type='mmltm.IBStatisticsHook', interval=4, t_warm=1, report_interval=1)])
MODEL = classifier(head=dict(type='mmltm.EfficientViTClsHead', hidden_channels=(32, 32), dropout=0.3))


class Stop(Hook):
    """Waits for its end in the middle of an iteration."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 7:
            Path(runner.work_dir, 'waiting').touch()
            time.sleep(600)


def test_killed_and_resumed_equals_uninterrupted(tmp_path, root):
    environment = {**os.environ, 'PYTHONPATH': str(root), 'OMP_NUM_THREADS': '1'}
    victim = subprocess.Popen([sys.executable, __file__, str(tmp_path / 'killed')], env=environment,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / 'killed' / 'waiting').exists():
            assert victim.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        victim.send_signal(signal.SIGKILL)
        assert victim.wait(timeout=30) == -signal.SIGKILL
    finally:
        victim.kill()
    assert (tmp_path / 'killed' / 'last_checkpoint').read_text().endswith('iter_6.pth')
    runner(tmp_path / 'killed', model=MODEL, resume=True, **LOOP).train()
    runner(tmp_path / 'whole', model=MODEL, **LOOP).train()
    whole = final_state(tmp_path / 'whole', 'iter_13.pth')
    assert whole['backbone.stages.2.mergers.1.step_weight'].any()
    assert_same(final_state(tmp_path / 'killed', 'iter_13.pth'), whole)


if __name__ == '__main__':
    LOOP['hooks'].append(Stop())
    runner(Path(sys.argv[1]), model=MODEL, **LOOP).train()
