"""A resumed run equals the uninterrupted one from its checkpoint on, bit for bit."""

import random

import numpy as np
import pytest
import torch

from mmltm.engine.random_states import get_random_states, set_random_states
from tests.engine.small_runs import assert_same, classifier, final_state, runner

IB = dict(type='mmltm.IBStatisticsHook', report_interval=1)
# Dropout draws in training, too.
MODEL = classifier(head=dict(type='mmltm.EfficientViTClsHead', hidden_channels=(32, 32), dropout=0.3))


def draw(generator):
    return (random.gauss(0, 1), random.random(), np.random.randn(), np.random.rand(), torch.rand(()).item(),
            torch.rand((), generator=generator).item())


def test_states_of_all_generators_come_back():
    generator = torch.Generator().manual_seed(1)
    before = get_random_states(generator)
    assert all(isinstance(state, torch.Tensor) for state in before.values())
    first = [draw(generator) for _ in range(3)]
    # An odd number of normal draws leaves one behind in Python's and NumPy's generators.
    between = get_random_states(generator)
    second = [draw(generator) for _ in range(3)]
    set_random_states(before, generator)
    assert [draw(generator) for _ in range(3)] == first
    # Of several ranks, a row each.
    rows = {key: torch.stack([before[key], state])[1] for key, state in between.items()}
    set_random_states(rows, generator)
    assert [draw(generator) for _ in range(3)] == second


@pytest.mark.parametrize('loop, resume_at, last', [
    (dict(epochs=5, val=True), 'epoch_3.pth', 'epoch_5.pth'),
    (dict(epochs=3, workers=1), 'epoch_2.pth', 'epoch_3.pth'),
    # Statistics end an epoch every fourth iteration, hence in the middle of which the run resumes.
    (dict(iters=13, val=True, hooks=[dict(IB, interval=4, t_warm=1)], checkpoint=dict(interval=2)),
     'iter_6.pth', 'iter_13.pth'),
    (dict(iters=6), 'iter_5.pth', 'iter_6.pth'),
    (dict(epochs=2, hooks=[dict(IB, t_warm=1)]), 'epoch_1.pth', 'epoch_2.pth'),
])
def test_resumed_run_equals_the_uninterrupted_one(tmp_path, loop, resume_at, last):
    loop = {'hooks': [IB], 'model': MODEL, **loop}
    runner(tmp_path / 'whole', **loop).train()
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    resumed = runner(tmp_path / 'resumed', load_from=str(tmp_path / 'whole' / resume_at), resume=True, **loop)
    resumed.train()
    whole = final_state(tmp_path / 'whole', last)
    # Steps have been taken, and their layer has learnt, unless there was neither a pass nor a second epoch before it.
    assert whole['backbone.stages.2.mergers.1.step_weight'].any() == (loop['hooks'][0] != dict(IB, t_warm=1))
    assert_same(whole, final_state(tmp_path / 'resumed', last))


def test_without_the_states_it_would_differ(tmp_path):
    whole, resumed = tmp_path / 'whole', tmp_path / 'resumed'
    runner(whole, model=MODEL, epochs=2).train()
    runner(resumed, model=MODEL, epochs=2, resume=True, load_from=str(whole / 'epoch_1.pth')).train()
    with pytest.raises(AssertionError):
        assert_same(final_state(whole, 'epoch_2.pth'), final_state(resumed, 'epoch_2.pth'))


def test_only_resuming_sets_the_states(tmp_path):
    runner(tmp_path / 'first', hooks=[dict(type='mmltm.RandomStateHook')], epochs=1).train()
    for resume in (False, True):
        run = runner(tmp_path / 'second', hooks=[dict(type='mmltm.RandomStateHook')], epochs=2, resume=resume,
                     load_from=str(tmp_path / 'first' / 'epoch_1.pth'))
        assert run.train_loop
        run.load_or_resume()
        fresh = torch.get_rng_state()
        run.call_hook('before_train')
        assert torch.get_rng_state().equal(fresh) != resume
