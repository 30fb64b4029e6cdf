"""Terms that hooks add to training losses: when, how much, and what they leave behind."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmpretrain.structures import DataSample

from mmltm.engine.hooks import ExtraLossHook, LTMPBudgetHook
from mmltm.errors import UserError
from mmltm.merging.ltmp import LTMP, budget_loss
from mmltm.models.builder import build_model
from tests.engine.small_runs import CLASSES, Images, classifier, runner


class Norm(ExtraLossHook):
    loss_name = 'loss_norm'

    def term(self, model, call):
        assert call['inputs'].shape[0] == len(call['data_samples']) == 4
        return model.head.fc.weight.square().sum()


def small_vit(ratio=0.5, merger='LTMP', **kwargs):
    """Config of a classifier on a ViT of three blocks, for images of 32 pixels."""
    arch = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)
    model = classifier(head=dict(type='VisionTransformerClsHead', in_channels=16))
    model.update(neck=None, backbone=dict(
        type='mmltm.LTMVisionTransformer', arch=arch, img_size=32, patch_size=8,
        merger=dict(type=merger, ratio=ratio, **kwargs)))
    return model


def prepared(hook, model_cfg, resume=False, **settings):
    """The model of a config that a hook watches as in a training, and a batch for it."""
    torch.manual_seed(0)
    model = build_model(model_cfg, 'mmpretrain').train()
    run = SimpleNamespace(
        model=model, logger=MMLogger.get_current_instance(), _resume=resume,
        cfg=Config(dict(model=model_cfg, default_scope='mmpretrain', **settings)))
    hook.before_train(run)
    samples = [DataSample().set_gt_label(index % len(CLASSES)) for index in range(4)]
    return model, dict(inputs=torch.randn(4, 3, 32, 32), data_samples=samples)


def test_the_term_is_there_in_training_only():
    hook = Norm(3.0)
    model, batch = prepared(hook, classifier())
    losses = model(**batch, mode='loss')
    assert set(losses) == {'loss', 'loss_norm'}
    torch.testing.assert_close(losses['loss_norm'], 3 * model.head.fc.weight.square().sum())
    total, logged = model.parse_losses(losses)
    torch.testing.assert_close(total, losses['loss'] + losses['loss_norm'])
    assert 'loss_norm' in logged
    assert isinstance(model(batch['inputs'], mode='tensor'), torch.Tensor)
    model.eval()
    assert set(model(**batch, mode='loss')) == {'loss'}
    model.train()
    hook.after_train(None)
    assert set(model(**batch, mode='loss')) == {'loss'}
    with pytest.raises(ValueError, match='weight must not be negative'):
        Norm(-1)


def test_budget_of_ltmp_moves_thresholds_alone(tmp_path):
    hooks = [dict(type='mmltm.MaskTuningHook'), dict(type='mmltm.LTMPBudgetHook')]
    run = runner(tmp_path, model=small_vit(), hooks=hooks, data=Images(size=32), epochs=2,
                 optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.05)))
    run.model.init_weights()
    before = {key: value.clone() for key, value in run.model.state_dict().items()}
    run.train()
    changed = {key for key, value in run.model.state_dict().items() if not before[key].equal(value)}
    assert changed and all(key.endswith('_threshold') for key in changed)
    assert run.message_hub.get_scalar('train/loss_budget').current() > 0


def test_budget_is_weighted():
    hook = LTMPBudgetHook()
    model, batch = prepared(hook, small_vit())
    loss = model(**batch, mode='loss')['loss_budget']
    torch.testing.assert_close(loss, 10 * budget_loss(model))
    loss.backward()
    mergers = [merger for merger in model.backbone.mergers if isinstance(merger, LTMP)]
    assert mergers and all(merger.prune_threshold.grad is not None for merger in mergers)
    with pytest.raises(UserError, match='LTMPBudgetHook: no threshold to tune'):
        prepared(LTMPBudgetHook(), classifier())
