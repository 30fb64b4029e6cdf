"""A training killed again and again, at moments drawn at random, and resumed: it ends as an uninterrupted one does."""

import json
import random
import signal
from collections import defaultdict

import pytest

from tests.engine.faults import PHASES, status, train
from tests.engine.small_runs import assert_same, classifier, final_state, write_config

MODEL = classifier(head=dict(type='mmltm.EfficientViTClsHead', hidden_channels=(32, 32), dropout=0.3))


def logged(folder):
    """What was logged at each step, by any life, but for times; all must say the same."""
    steps = defaultdict(set)
    for path in sorted(folder.glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            try:
                values = json.loads(line)
            except ValueError:  # the line that a kill cut off
                continue
            values = {key: value for key, value in values.items() if 'time' not in key and key != 'memory'}
            steps['val' if 'rising/value' in values else 'train', values.get('step')].add(str(values))
    return steps


@pytest.mark.parametrize('phases, epochs', [
    (('train', 'writing'), 3), pytest.param((PHASES * 3)[-10:], 14, marks=pytest.mark.nightly)],
    ids=['twice', 'ten_times'])
def test_killed_and_resumed_equals_uninterrupted(tmp_path, root, phases, epochs):
    draw = random.Random(0)
    write_config(
        tmp_path / 'config.py', MODEL, train_cfg=dict(by_epoch=True, max_epochs=epochs),
        custom_hooks=[dict(type='mmltm.IBStatisticsHook', report_interval=1), dict(type='Fate')])
    killed, whole = tmp_path / 'killed', tmp_path / 'whole'
    # There are first statistics only as long as there is no checkpoint.
    for number, phase in enumerate(sorted(phases, key=lambda phase: (phase != 'statistics', draw.random()))):
        fate = phase, draw.randint(1, epochs // 3 + 1), round(draw.random(), 2)
        code = status(train(root, tmp_path / 'config.py', killed, FATE='{} {} {}'.format(*fate)))
        print(f'kill {number + 1} of {len(phases)}, {fate}: status {code}, last checkpoint: '
              f'{max([path.name for path in killed.glob("epoch_*.pth")], default=None, key=lambda x: int(x[6:-4]))}')
        assert code == -signal.SIGKILL, (killed / 'output').read_text()[-3000:]
    for folder in (killed, whole):
        assert status(train(root, tmp_path / 'config.py', folder)) == 0, (folder / 'output').read_text()[-3000:]
    last = f'epoch_{epochs}.pth'
    expected = final_state(whole, last)
    assert expected['backbone.stages.2.mergers.1.step_weight'].any()
    assert_same(final_state(killed, last), expected)
    best, same = (sorted(path.name for path in folder.glob('best*')) for folder in (whole, killed))
    assert best == same
    lives, one = logged(killed), logged(whole)
    assert lives == one and len(one) == 5 * epochs
