"""Weights spread over two processes: what is resumed equals what was not interrupted; what is not supported says so."""

from importlib.util import find_spec

import pytest

from tests.engine.faults import status, train, train_ranks
from tests.engine.small_runs import assert_same, final_state, write_config

FSDP = ('--cfg-options', 'strategy.type=FSDPStrategy')


def config(folder, **kwargs):
    write_config(folder / 'config.py', dict(type='TwoBlocks'), dict(augment=False), **{
        'optim_wrapper': dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        'train_cfg': dict(by_epoch=True, max_epochs=2), **kwargs})
    return folder / 'config.py'


def test_resumed_equals_uninterrupted(tmp_path, root):
    folder = tmp_path / 'run'

    def run():
        for process in train_ranks(2, root, config(tmp_path), folder, *FSDP):
            assert status(process) == 0, (folder / 'output').read_text()[-3000:]
        return final_state(folder, 'epoch_2.pth')

    whole = run()
    for name in ('epoch_2.pth', 'last_checkpoint'):
        (folder / name).unlink()
    assert_same(run(), whole)
    assert 'resumed epoch: 1' in (folder / 'output').read_text()
    assert any('momentum' in key for key in whole) and whole['mergers.2.step_weight'].any()


@pytest.mark.parametrize('ranks, hooks, options, message', [
    (1, [dict(type='EMAHook')], FSDP, 'EMAHook averages whole weights, of which FSDPStrategy leaves every process'),
    (1, [dict(type='mmltm.MaskTuningHook')], FSDP, 'MaskTuningHook freezes whole weights'),
    (1, [dict(type='mmltm.IBStatisticsHook', t_warm=1)], FSDP, 'IBStatisticsHook freezes whole weights'),
    (0, [], FSDP, 'strategy FSDPStrategy needs several processes: start them by tools/dist_train.sh'),
    pytest.param(
        1, [], ('--cfg-options', 'strategy.type=DeepSpeedStrategy', 'optim_wrapper.type=DeepSpeedOptimWrapper'),
        'strategy DeepSpeedStrategy needs DeepSpeed, which is not installed: pip install deepspeed',
        marks=pytest.mark.skipif(find_spec('deepspeed') is not None, reason='DeepSpeed is installed')),
], ids=['ema', 'tuning', 'warm', 'alone', 'deepspeed'])
def test_refused_before_training(tmp_path, root, ranks, hooks, options, message):
    start = train_ranks if ranks else lambda _, *args: [train(*args)]
    process, = start(ranks, root, config(tmp_path, custom_hooks=hooks), tmp_path / 'run', *options)
    assert status(process) == 1
    output = (tmp_path / 'run' / 'output').read_text()
    assert output.splitlines()[-1].startswith('error: ') and message in output.splitlines()[-1]
    assert 'Traceback' not in output and not list((tmp_path / 'run').glob('*.pth'))
