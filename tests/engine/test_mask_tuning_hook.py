"""The paper's fine-tuning: masks learn, all else stays to the bit."""

import pytest
import torch

from mmltm.errors import UserError
from tests.engine.small_runs import classifier, runner

TUNING = dict(type='mmltm.MaskTuningHook')
IB = dict(type='mmltm.IBStatisticsHook')


@pytest.mark.parametrize('hooks', [[TUNING], [TUNING, IB]])
def test_all_but_the_masks_is_frozen_to_the_bit(tmp_path, hooks):
    model = classifier(head=dict(type='mmltm.EfficientViTClsHead', hidden_channels=(32, 32), dropout=0.5),
                       merger=dict(num_classes=3 if IB in hooks else None))
    run = runner(tmp_path, model=model, hooks=hooks, epochs=3, val=True,
                 optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.05, weight_decay=0.5)))
    run.model.init_weights()
    before = {key: value.clone() for key, value in run.model.state_dict().items()}
    modes = []
    run.model.head.dropout.register_forward_hook(
        lambda module, *_: modes.append((module.training, run.model.training)))
    run.train()
    after = run.model.state_dict()
    changed = {key for key in before if not before[key].equal(after[key])}
    ours = {key for key in before if '.mergers.' in key}
    logits = {key for key in ours if key.endswith('.logits')}
    assert len(logits) == 4 and logits <= changed <= ours
    learnt = {'logits', 'step_gain', 'step_weight', 'centroids'} if IB in hooks else {'logits'}
    assert {key.split('.')[-1] for key in changed} >= learnt
    assert (False, True) in modes and (True, True) not in modes, 'losses in training mode, without dropout'
    touched = run.optim_wrapper.optimizer.state
    assert {name for name, parameter in run.model.named_parameters() if parameter in touched} == {
        name for name, parameter in run.model.named_parameters() if '.mergers.' in name}


def test_a_model_without_masks_is_refused(tmp_path):
    for index, model in enumerate((classifier(merger=dict(ratio=1.0)), classifier(frozen_stages=4))):
        with pytest.raises(UserError, match='MaskTuningHook: no mask to tune'):
            runner(tmp_path / str(index), model=model, hooks=[TUNING]).train()


@pytest.mark.parametrize('merger, names', [
    (dict(type='SoftMerging', p=2), ('.query.weight', '.key.weight')),
    (dict(type='LTM', ratio=0.5), ('.logits', ))])
@pytest.mark.parametrize('norms', [False, True])
def test_all_that_mergers_learn_and_norms_if_asked_for(tmp_path, merger, names, norms):
    arch = [['mobilenetv2', 8, 2, 1, 2], ['mobilevit', 8, 1, 16, 32, 2, 2], ['mobilenetv2', 8, 1, 1, 2]]
    model = classifier()
    model['backbone'] = dict(type='mmltm.LTMMobileViT', arch=arch, stem_channels=8, out_indices=(2, ), merger=merger)
    model['head']['in_channels'] = 32
    run = runner(tmp_path, model=model, hooks=[dict(TUNING, norms=norms)], epochs=1)
    run.train()
    learning = {name for name, parameter in run.model.named_parameters() if parameter.requires_grad}
    mergers = {name for name in learning if '.mergers.' in name}
    assert mergers and all(name.endswith(names) for name in mergers)
    layers = {name for name, module in run.model.named_modules()
              if isinstance(module, (torch.nn.LayerNorm, torch.nn.BatchNorm2d)) and 'layers.1.1.' in name}
    assert len(layers) == 8, 'two a layer and one of the stage, and one behind each of its three convolutions'
    expected = {f'{name}.{key}' for name in layers for key in ('weight', 'bias')} if norms else set()
    assert learning - mergers == expected
    assert not any(module.training for name, module in run.model.named_modules() if name in layers)


def test_running_statistics_stay_where_norms_learn(tmp_path):
    run = runner(tmp_path, model=classifier(), hooks=[dict(TUNING, norms=True)], epochs=1)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    run.train()
    moved = {name for name, value in run.model.state_dict().items() if not value.equal(before[name])}
    norms = {f'{name}.{key}' for name, module in run.model.named_modules()
             if isinstance(module, torch.nn.BatchNorm2d) for key in ('weight', 'bias')}
    assert moved & norms and {name.split('.')[2] for name in moved & norms} <= {'2', '3'}, 'stages that merge'
    assert not any('running' in name or 'num_batches' in name for name in moved)


def test_norms_need_normalisation_where_tokens_merge(tmp_path):
    model = classifier()
    model['backbone'] = dict(
        type='mmltm.LTMEfficientViT', arch='b0', merger=dict(type='LTM', ratio=0.5),
        norm_cfg=dict(type='BN', requires_grad=False))
    with pytest.raises(UserError, match='norms=True, but no merging stage'):
        runner(tmp_path, model=model, hooks=[dict(TUNING, norms=True)]).train()
