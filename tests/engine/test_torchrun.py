"""Jobs of tools/dist_train.sh: as many ranks as one process, on one machine and on two, killed and restarted.

    python -m pytest -m nightly tests/engine/test_torchrun.py
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.engine.faults import free_port, status, train
from tests.engine.small_runs import final_state, write_config

pytestmark = pytest.mark.nightly


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp('torchrun') / 'config.py'
    write_config(
        path, dict(type='TwoBlocks'), dict(count=32, augment=False, noise=300),
        custom_hooks=[dict(type='mmltm.IBStatisticsHook', report_interval=1), dict(type='Fate')],
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)), train_cfg=dict(by_epoch=True, max_epochs=2))
    return path


@pytest.fixture(scope='module')
def alone(root, config):
    folder = config.parent / 'alone'
    assert status(train(root, config, folder, '--cfg-options', 'train_dataloader.batch_size=8')) == 0
    return final_state(folder, 'epoch_2.pth')


def start(root, config, folder, ranks, nodes, **environment):
    """The processes of tools/dist_train.sh, one a machine."""
    environment = {**os.environ, 'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}', 'OMP_NUM_THREADS': '1',
                   'NNODES': str(nodes), 'PORT': str(free_port()), **environment}
    return [subprocess.Popen(
        ['bash', root / 'tools' / 'dist_train.sh', config, str(ranks // nodes), '--work-dir', folder, '--resume',
         '--cfg-options', f'train_dataloader.batch_size={8 // ranks}'],
        env={**environment, 'NODE_RANK': str(node)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for node in range(nodes)]


def assert_equal(folder, alone):
    state = final_state(folder, 'epoch_2.pth')
    torch.testing.assert_close(state, alone, rtol=1e-6, atol=1e-6)
    assert state['mergers.2.step_weight'].any()


@pytest.mark.parametrize('ranks, nodes', [(2, 1), (4, 1), (4, 2)])
def test_ranks_equal_one(tmp_path, root, config, alone, ranks, nodes):
    for job in start(root, config, tmp_path, ranks, nodes):
        _, errors = job.communicate()
        assert job.returncode == 0, errors[-3000:]
    assert_equal(tmp_path, alone)


def test_a_killed_rank_is_named_and_the_job_starts_again(tmp_path, root, config, alone):
    """First without a restart, then with one, after another kill in the middle of the second epoch."""
    job, = start(root, config, tmp_path, 2, 1, FATE='train 2 0.1', FATE_RANK='1')
    _, errors = job.communicate()
    print(errors.splitlines()[-1])
    assert job.returncode == 1 and 'Traceback' not in errors
    assert 'error: rank 0 lost the connection to another rank' in errors or 'Sending process' in errors
    assert errors.splitlines()[-1].startswith('error: rank 1 (process ') and ' was killed by SIGKILL;' in errors
    job, = start(root, config, tmp_path, 2, 1, FATE='train 6 0.1', FATE_RANK='1', FATE_LIFE='0', MAX_RESTARTS='1')
    output, errors = job.communicate()
    assert job.returncode == 0, errors[-3000:]
    print(next(line for line in output.splitlines() if 'resumed epoch' in line))
    assert 'resumed epoch: 1' in output
    assert_equal(tmp_path, alone)
