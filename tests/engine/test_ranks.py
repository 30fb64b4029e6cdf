"""Two processes train as one does on the same data: as they are, with accumulated gradients, and with FSDP."""

from functools import cache

import pytest
import torch

from tests.engine.faults import status, train, train_ranks
from tests.engine.small_runs import final_state, write_config


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp('ranks') / 'config.py'
    write_config(path, dict(type='TwoBlocks'), dict(count=32, augment=False, noise=300),
                 optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1), clip_grad=dict(max_norm=0.3)),
                 train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=2))
    return path


@pytest.fixture(scope='module')
def alone(root, config):
    """What one process makes of a batch of eight, in so many parts."""

    @cache
    def state(parts):
        folder = config.parent / f'alone_{parts}'
        process = train(root, config, folder, *options(8 // parts, parts))
        assert status(process) == 0, (folder / 'output').read_text()[-3000:]
        return final_state(folder, 'epoch_2.pth')

    return state


def options(batch, counts=1, *more):
    return ('--cfg-options', f'train_dataloader.batch_size={batch}', f'optim_wrapper.accumulative_counts={counts}',
            *more)


@pytest.mark.parametrize('parts, more', [(1, ()), (2, ()), (1, ('strategy.type=FSDPStrategy',))],
                         ids=['ddp', 'accumulated', 'fsdp'])
def test_two_ranks_equal_one(tmp_path, root, config, alone, parts, more):
    for process in train_ranks(2, root, config, tmp_path / 'two', *options(4 // parts, parts, *more)):
        assert status(process) == 0, (tmp_path / 'two' / 'output').read_text()[-3000:]
    state = final_state(tmp_path / 'two', 'epoch_2.pth')
    assert state['mergers.2.step_weight'].any()
    torch.testing.assert_close(state, alone(parts), rtol=1e-6, atol=1e-6)
