"""Distillation, against its formula."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config

from harness.distillation_hook import DistillationHook
from mmltm.errors import UserError
from mmltm.models.builder import build_model, vanilla_twin
from tests.engine.small_runs import classifier
from tests.engine.test_extra_loss_hooks import prepared, small_vit


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
    model, batch = prepared(hook, classifier(), load_from=str(path))
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
    model, batch = prepared(hook, classifier(merger=dict(ratio=1.0)), resume=True)
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
    model, batch = prepared(hook, classifier())
    assert type(hook._teacher.backbone) is not type(model.backbone)
    torch.testing.assert_close(hook._teacher(batch['inputs'], mode='tensor'), teacher(batch['inputs'], mode='tensor'))
    assert model(**batch, mode='loss')['loss_distillation'] > 0
    config.write_text(config.read_text() + '\ndata_preprocessor = dict(mean=[1., 1., 1.], std=[1., 1., 1.])')
    with pytest.raises(UserError, match='another data_preprocessor'):
        prepared(DistillationHook(str(tmp_path / 'teacher.pth'), config=str(config)), classifier())


def test_distillation_refuses_what_it_cannot_use(teacher, tmp_path):
    path, _ = teacher
    for settings in (dict(), dict(load_from=str(path), resume=True)):
        with pytest.raises(UserError, match='no checkpoint of the teacher'):
            prepared(DistillationHook(), classifier(), **settings)
    with pytest.raises(UserError, match='no classifier'):
        DistillationHook(str(path)).before_train(SimpleNamespace(model=torch.nn.Linear(1, 1)))
    torch.save(dict(state_dict=dict(weight=torch.ones(1))), tmp_path / 'other.pth')
    with pytest.raises(UserError, match='is of another model'):
        prepared(DistillationHook(str(tmp_path / 'other.pth')), classifier())
    with pytest.raises(ValueError, match='temperature must be positive'):
        DistillationHook(temperature=0)
