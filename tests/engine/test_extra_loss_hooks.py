"""Terms that hooks add to training losses: when, how much, and what they leave behind."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmpretrain.structures import DataSample

from mmltm.engine.hooks import DistillationHook, ExtraLossHook, LTMPBudgetHook
from mmltm.errors import UserError
from mmltm.merging.ltmp import LTMP, budget_loss
from mmltm.models.builder import build_model, vanilla_twin
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


def prepared(hook, model_cfg, **settings):
    """The model of a config that a hook watches as in a training, and a batch for it."""
    torch.manual_seed(0)
    model = build_model(model_cfg, 'mmpretrain').train()
    run = SimpleNamespace(
        model=model, logger=MMLogger.get_current_instance(),
        **{'_resume': False, '_load_from': None, 'cfg': Config(dict(model=model_cfg, default_scope='mmpretrain')),
           **settings})
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


@pytest.fixture
def teacher(tmp_path):
    """Path and model of a vanilla checkpoint."""
    torch.manual_seed(1)
    model = build_model(vanilla_twin(Config(dict(model=classifier()))), 'mmpretrain')
    torch.nn.init.normal_(model.head.fc.weight)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'vanilla.pth')
    return tmp_path / 'vanilla.pth', model.requires_grad_(False)


def test_distillation_by_hand(teacher):
    path, vanilla = teacher
    hook = DistillationHook(weight=0.5, temperature=2.0)
    model, batch = prepared(hook, classifier(), _load_from=str(path))
    torch.manual_seed(2)  # of the masks, which are drawn in training
    loss = model(**batch, mode='loss')['loss_distillation']
    torch.manual_seed(2)
    ours = F.softmax(model(batch['inputs'], mode='tensor') / 2, -1)
    theirs = F.softmax(vanilla(batch['inputs'], mode='tensor') / 2, -1)
    torch.testing.assert_close(loss, 0.5 * 4 * (theirs * (theirs / ours).log()).sum(-1).mean())
    loss.backward()
    assert model.head.fc.weight.grad.abs().sum() > 0
    assert hook._teacher.training is False and not any(p.requires_grad for p in hook._teacher.parameters())
    assert model.state_dict().keys() == build_model(classifier(), 'mmpretrain').state_dict().keys()
    hook.after_train(None)
    assert set(model(**batch, mode='loss')) == {'loss'}


def test_nothing_to_learn_from_the_very_same_model(teacher):
    path, vanilla = teacher
    hook = DistillationHook(checkpoint=str(path))
    model, batch = prepared(hook, classifier(merger=dict(ratio=1.0)), _resume=True)
    model.load_state_dict(vanilla.state_dict())
    for module in model.backbone.modules():  # keeps the mode of a classifier whose backbone is frozen
        module.training = False
    torch.testing.assert_close(model(**batch, mode='loss')['loss_distillation'], torch.tensor(0.))


def test_the_teacher_may_be_another_model(tmp_path):
    config = tmp_path / 'teacher.py'
    vanilla = small_vit()
    vanilla['backbone']['merger'] = None
    config.write_text(f'default_scope = "mmpretrain"\nmodel = {vanilla}')
    torch.manual_seed(1)
    teacher = build_model(Config.fromfile(config).model, 'mmpretrain')
    torch.nn.init.normal_(teacher.head.layers.head.weight)
    torch.save(dict(state_dict=teacher.state_dict()), tmp_path / 'teacher.pth')
    hook = DistillationHook(str(tmp_path / 'teacher.pth'), config=str(config))
    model, batch = prepared(hook, classifier(), cfg=Config(dict(model=classifier(), default_scope='mmpretrain')))
    assert type(hook._teacher.backbone) is not type(model.backbone)
    torch.testing.assert_close(hook._teacher(batch['inputs'], mode='tensor'), teacher(batch['inputs'], mode='tensor'))
    assert model(**batch, mode='loss')['loss_distillation'] > 0
    config.write_text(config.read_text() + '\ndata_preprocessor = dict(mean=[1., 1., 1.], std=[1., 1., 1.])')
    with pytest.raises(UserError, match='another data_preprocessor'):
        prepared(DistillationHook(str(tmp_path / 'teacher.pth'), config=str(config)), classifier())


def test_distillation_refuses_what_it_cannot_use(teacher, tmp_path):
    path, _ = teacher
    for settings in (dict(), dict(_load_from=str(path), _resume=True)):
        with pytest.raises(UserError, match='no checkpoint of the teacher'):
            prepared(DistillationHook(), classifier(), **settings)
    with pytest.raises(UserError, match='no classifier'):
        DistillationHook(str(path)).before_train(SimpleNamespace(model=torch.nn.Linear(1, 1)))
    torch.save(dict(state_dict=dict(weight=torch.ones(1))), tmp_path / 'other.pth')
    with pytest.raises(UserError, match='is of another model'):
        prepared(DistillationHook(str(tmp_path / 'other.pth')), classifier())
    with pytest.raises(ValueError, match='temperature must be positive'):
        DistillationHook(temperature=0)
