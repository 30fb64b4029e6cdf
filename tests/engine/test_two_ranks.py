"""Trainings by two gloo processes: the same as by one, on the same data."""

import gc
import os
from pathlib import Path

import torch
from mmengine.hooks import Hook

from tests.engine.faults import fork, free_port, status
from tests.engine.small_runs import Images, TwoBlocks, assert_same, classifier, final_state, runner

IB = dict(type='mmltm.IBStatisticsHook', report_interval=1)
TUNING = [dict(type='mmltm.MaskTuningHook'), IB]
# Saved in the middle of an epoch of four iterations.
MIDWAY = dict(hooks=[dict(IB, interval=4)], iters=9, checkpoint=dict(interval=3))


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


def wrapper():
    """Data parallelism that waits for a gradient of every parameter, though masks get none before they merge."""
    return dict(cfg=dict(model_wrapper_cfg=dict(
        type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)))


def main(rank, port, out):
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2')
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo', f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
    kwargs = dict(batch_size=4, launcher='pytorch')
    run = train_blocks(out / 'statistics', **wrapper(), **kwargs)
    torch.save(run.model.module.state_dict(), out / f'statistics_{rank}.pth')
    # The whole set is seen before the first step, too, by each rank the half of it.
    run = train_blocks(out / 'initial', t_warm=0, epochs=1, **wrapper(), **kwargs)
    torch.save(run.model.module.state_dict(), out / f'initial_{rank}.pth')

    run = train(out / 'tuning', hooks=[*TUNING, Start()], epochs=2, **wrapper(), **kwargs)
    torch.save(run.model.module.state_dict(), out / f'tuning_{rank}.pth')

    train(out / 'whole', data=Images(), **MIDWAY, **wrapper(), **kwargs)
    train(out / 'resumed', data=Images(), resume=True, load_from=str(out / 'whole' / 'iter_6.pth'), **MIDWAY,
          **wrapper(), **kwargs)
    gc.collect()
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_two_ranks_equal_one(tmp_path):
    port = free_port()
    ranks = [fork(tmp_path / f'output_{rank}', main, rank, port, tmp_path) for rank in range(2)]
    for rank, process in enumerate(ranks):
        assert status(process) == 0, (tmp_path / f'output_{rank}').read_text()[-3000:]

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

    whole, resumed = (final_state(tmp_path / name, 'iter_9.pth') for name in ('whole', 'resumed'))
    assert_same(whole, resumed)
