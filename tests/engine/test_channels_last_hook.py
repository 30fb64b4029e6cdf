"""Maps in the order of channels change nothing but the time, and checkpoints know nothing of it."""

import pytest
import torch

from tests.engine.small_runs import final_state, runner

HOOK = dict(type='mmltm.ChannelsLastHook')
FUSED = dict(optimizer=dict(type='AdamW', lr=1e-3, fused=True))


@pytest.mark.parametrize('before, after', [([], [HOOK]), ([HOOK], []), ([HOOK], [HOOK])])
def test_a_run_may_begin_and_stop_to_use_it(tmp_path, before, after):
    runner(tmp_path / 'plain', epochs=2, optim_wrapper=FUSED).train()
    runner(tmp_path / 'first', epochs=2, hooks=before, optim_wrapper=FUSED).train()
    runner(tmp_path / 'last', epochs=2, hooks=after, optim_wrapper=FUSED, resume=True,
           load_from=str(tmp_path / 'first' / 'epoch_1.pth')).train()
    plain, last = final_state(tmp_path / 'plain', 'epoch_2.pth'), final_state(tmp_path / 'last', 'epoch_2.pth')
    assert all(value.is_contiguous() for key, value in last.items() if key.startswith('optimizer'))
    # What rounding makes of first steps, which normalise gradients; of another order in memory, 0.1 and more.
    moved = max((value - last[key]).abs().max().item() for key, value in plain.items() if key.endswith('conv.weight'))
    assert moved < 0.02


def test_maps_are_in_the_order_of_channels(tmp_path):
    run = runner(tmp_path, epochs=1, hooks=[HOOK])
    seen = []
    run.model.backbone.stages[2].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    run.train()
    assert seen and all(x.is_contiguous(memory_format=torch.channels_last) for x in seen)
