"""Trainings by two gloo processes: the same as by one, on the same data.

Run as a script, this file is one of the two.
"""

import gc
import os
import socket
import subprocess
import sys
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel

from mmltm.merging import LTM
from tests.engine.small_runs import Images, assert_same, classifier, final_state, runner

IB = dict(type='mmltm.IBStatisticsHook', report_interval=1)
TUNING = [dict(type='mmltm.MaskTuningHook'), IB]
# Saved in the middle of an epoch of four iterations.
MIDWAY = dict(hooks=[dict(IB, interval=4)], iters=9, checkpoint=dict(interval=3))


class TwoBlocks(BaseModel):
    """Merges twice and classifies; no batch statistics, and nothing that amplifies rounding errors."""

    def __init__(self):
        super().__init__()
        self.mergers = torch.nn.ModuleList(
            # Scaled to unit size, a small gradient's rounding errors would grow with it.
            LTM(source, target, 8, first=first, num_classes=3, step_norm='none')
            for source, target, first in (
                ((7, 7), (6, 6), True), ((6, 6), (4, 4), False), ((4, 4), (3, 3), False)))
        self.stem = torch.nn.Conv2d(3, 8, 9, stride=9)
        self.fc = torch.nn.Linear(8, 3)

    def forward(self, inputs, data_samples, mode):
        x, carry = self.stem((torch.stack(list(inputs)) - 128) / 64).tanh(), None
        for merger in self.mergers:
            operator, carry = merger(x, carry)
            x = x if operator is None else operator.merge(x)
        labels = torch.cat([sample.gt_label for sample in data_samples])
        return dict(loss=torch.nn.functional.cross_entropy(self.fc(x.mean((2, 3))), labels))


class Start(Hook):
    """Saves the model as training begins."""

    def before_train(self, runner):
        torch.save(runner.model.module.state_dict(), Path(runner.work_dir, f'start_{runner.rank}.pth'))


def train(out, batch_size, model=None, data=None, **kwargs):
    run = runner(out, model=model or classifier(), batch_size=batch_size,
                 data=data or Images(augment=False), **kwargs)
    run.train()
    return run


def train_blocks(out, batch_size, t_warm=1, epochs=4, **kwargs):
    torch.manual_seed(0)
    return train(out, batch_size, TwoBlocks(), Images(48, augment=False, noise=300), epochs=epochs,
                 hooks=[dict(IB, t_warm=t_warm, initial_images=None)],
                 optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)), **kwargs)


def wrapper(find_unused):
    return dict(cfg=dict(model_wrapper_cfg=dict(
        type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False,
        find_unused_parameters=find_unused)))


def main(rank, port, out):
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2')
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo', f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    kwargs = dict(batch_size=4, launcher='pytorch')
    run = train_blocks(out / 'statistics', **wrapper(True), **kwargs)
    torch.save(run.model.module.state_dict(), out / f'statistics_{rank}.pth')
    # The whole set is seen before the first step, too, by each rank the half of it.
    run = train_blocks(out / 'initial', t_warm=0, epochs=1, **wrapper(True), **kwargs)
    torch.save(run.model.module.state_dict(), out / f'initial_{rank}.pth')

    run = train(out / 'tuning', hooks=[*TUNING, Start()], epochs=2, **wrapper(True), **kwargs)
    torch.save(run.model.module.state_dict(), out / f'tuning_{rank}.pth')

    errors = []
    for hooks in ([dict(type='mmltm.MaskTuningHook')], [dict(IB, t_warm=1)]):
        try:
            train(out / 'errors', hooks=hooks, epochs=1, **wrapper(False), **kwargs)
        except Exception as error:
            errors.append(f'{type(error).__name__}: {error}')
    (out / f'errors_{rank}.txt').write_text('\n'.join(errors))

    train(out / 'whole', data=Images(), **MIDWAY, **wrapper(False), **kwargs)
    train(out / 'resumed', data=Images(), resume=True, load_from=str(out / 'whole' / 'iter_6.pth'), **MIDWAY,
          **wrapper(False), **kwargs)
    gc.collect()
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_two_ranks_equal_one(tmp_path, root):
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, 'PYTHONPATH': str(root), 'OMP_NUM_THREADS': '1'}
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    ranks = [subprocess.Popen([sys.executable, __file__, str(rank), str(port), str(tmp_path)],
                              env=environment, **pipes) for rank in range(2)]
    try:
        for rank in ranks:
            output, _ = rank.communicate(timeout=240)
            assert rank.returncode == 0, output[-3000:]
    finally:
        for rank in ranks:
            rank.kill()

    for name, arguments in (('statistics', {}), ('initial', dict(t_warm=0, epochs=1))):
        alone = train_blocks(tmp_path / 'alone', 8, **arguments).model.state_dict()
        states = [torch.load(tmp_path / f'{name}_{rank}.pth') for rank in range(2)]
        assert_same(*states)
        assert states[0]['mergers.2.step_weight'].any()
        for key, value in alone.items():
            torch.testing.assert_close(
                states[0][key], value, rtol=1e-6, atol=1e-6, msg=lambda text, of=f'{name} {key}': f'{of}: {text}')

    states = [torch.load(tmp_path / f'tuning_{rank}.pth') for rank in range(2)]
    assert_same(*states)
    start = torch.load(tmp_path / 'tuning' / 'start_0.pth')
    changed = {key for key in start if not start[key].equal(states[0][key])}
    assert all('.mergers.' in key for key in changed)
    assert len([key for key in changed if key.endswith('.logits')]) == 4

    errors = (tmp_path / 'errors_0.txt').read_text().splitlines()
    assert len(errors) == 2
    assert all('UserError' in error and 'set find_unused_parameters=True' in error for error in errors)

    whole, resumed = (final_state(tmp_path / name, 'iter_9.pth') for name in ('whole', 'resumed'))
    assert_same(whole, resumed)


if __name__ == '__main__':
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
