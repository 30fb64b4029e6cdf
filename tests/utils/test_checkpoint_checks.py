"""Checkpoints that are missing, broken, or of another model are found before they are used."""

import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModule
from torch import nn

from mmltm.utils.checkpoint_checks import check_checkpoint_files, check_tested, check_trained
from mmltm.utils.errors import UserError


class Model(BaseModule):
    """Backbone of two layers and a head."""

    def __init__(self, width=4, classes=3, init_cfg=None):
        super().__init__()
        self.backbone = BaseModule(init_cfg)
        self.backbone.convs = nn.Sequential(
            nn.Conv2d(3, width, 1), nn.BatchNorm2d(width), nn.Conv2d(width, width, 1))
        self.head = nn.Linear(width, classes)


def refused(message):
    return pytest.raises(UserError, match=message)


def runner(model):
    return SimpleNamespace(model=model, logger=logging.getLogger('checkpoint checks'))


@pytest.fixture
def save(tmp_path):
    def save(content, name='model.pth'):
        torch.save(content, tmp_path / name)
        return str(tmp_path / name)
    return save


def config(**kwargs):
    return Config(dict(model=dict(), work_dir='nowhere', **kwargs))


@pytest.mark.parametrize('cfg, message', [
    (dict(load_from='gone.pth'), '^checkpoint gone.pth does not exist'),
    (dict(load_from='gone.pth', resume=True), '^checkpoint gone.pth does not exist'),
    (dict(model=dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='gone.pth')))),
     '^model.backbone.init_cfg.checkpoint gone.pth does not exist'),
    (dict(model=dict(parts=[dict(init_cfg=[dict(), dict(type='Pretrained', checkpoint='gone.pth')])])),
     '^model.parts.0.init_cfg.1.checkpoint gone.pth does not exist'),
])
def test_missing_files(cfg, message):
    with refused(message):
        check_checkpoint_files(Config({**dict(model=dict(), work_dir='nowhere'), **cfg}))


def test_zoo_and_new_trainings_need_no_file():
    check_checkpoint_files(config(resume=True))  # nothing to resume from: starts anew
    check_checkpoint_files(config(load_from='https://example.org/x.pth'))
    pretrained = dict(type='Pretrained', checkpoint='torchvision://resnet50')
    check_checkpoint_files(Config(dict(model=dict(backbone=dict(init_cfg=pretrained)), work_dir='nowhere')))


def test_latest_checkpoint_is_gone(tmp_path):
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_3.pth'))
    with refused('latest checkpoint of .*epoch_3.pth does not exist'):
        check_checkpoint_files(Config(dict(model=dict(), work_dir=str(tmp_path), resume=True)))


def test_own_checkpoint_with_harmless_extras(save, caplog):
    model = Model()
    state = {f'module.{key}': value for key, value in model.state_dict().items()}  # as DDP names them
    state = {key: value for key, value in state.items() if 'num_batches_tracked' not in key}
    state.update({'ema_head_weight': torch.zeros(1), 'data_preprocessor.mean': torch.zeros(3)})
    check_tested(runner(model), save(dict(state_dict=state, optimizer=dict())))
    check_tested(runner(model), save(state))  # bare, as others save them
    assert not caplog.records


def test_larger_checkpoint_is_logged(save, caplog):
    model = Model()
    path = save(dict(state_dict=dict(model.state_dict(), **{'mask_head.weight': torch.zeros(1)})))
    check_tested(runner(model), path)
    assert '1 unknown to the model (mask_head.weight)' in caplog.text


def test_checkpoint_lacks_keys(save):
    state = Model().state_dict()
    del state['head.weight'], state['backbone.convs.1.running_var']
    with refused('of 10 keys 2 missing in the checkpoint .backbone.convs.1.running_var, head.w'):
        check_tested(runner(Model()), save(dict(state_dict=state)))


def test_checkpoint_of_other_shapes(save):
    path = save(dict(state_dict=dict(Model(classes=80).state_dict(), extra=torch.zeros(1))))
    with pytest.raises(UserError) as error:
        check_tested(runner(Model()), path)
    assert str(error.value) == (
        f'checkpoint {path} is of another model than the config: of 10 keys 2 of another shape '
        '(head.weight (80, 4) against (3, 4), head.bias (80,) against (3,)), 1 unknown to the model (extra)')


def test_checkpoint_of_an_unrelated_model(save):
    path = save(dict(state_dict=nn.Linear(2, 2).state_dict()))
    with refused('10 missing in the checkpoint .*, 2 unknown to the model .bias, weight.'):
        check_tested(runner(Model()), path)


@pytest.mark.parametrize('content', [b'', b'no checkpoint'])
def test_not_a_checkpoint(tmp_path, content):
    path = tmp_path / 'x.pth'
    path.write_bytes(content)
    with refused('cannot read checkpoint .*x.pth: '):
        check_tested(runner(Model()), str(path))


def test_checkpoint_without_a_dict(save):
    with refused('is not a checkpoint: it holds a list, no dict'):
        check_tested(runner(Model()), save([1, 2]))


def test_resuming(save):
    model = Model()
    path = save(dict(state_dict=model.state_dict(), message_hub=dict()))
    check_trained(runner(model), config(resume=True, load_from=path))
    with refused('of another model'):
        check_trained(runner(Model(classes=5)), config(resume=True, load_from=path))
    with refused('holds weights but no state of a training'):
        check_trained(runner(model), config(resume=True, load_from=save(dict(state_dict=model.state_dict()))))


def test_starting_from_other_weights(save):
    path = save(dict(state_dict=Model().state_dict()))
    check_trained(runner(Model(classes=80)), config(load_from=path))  # a new head is common
    with refused('does not fit the model: of 10 keys 9 of another shape'):
        check_trained(runner(Model(width=8)), config(load_from=path))


def test_pretrained_backbone(save):
    """The checkpoint is a classifier's: the backbone takes the keys below ``backbone.``."""
    path = save(dict(state_dict=Model().state_dict()))

    def pretrained(**kwargs):
        return dict(type='Pretrained', checkpoint=path, **kwargs)

    check_trained(runner(Model(classes=80, init_cfg=pretrained(prefix='backbone.'))), config())
    for model in (Model(width=8, init_cfg=pretrained(prefix='backbone.')), Model(init_cfg=pretrained())):
        with refused(f'checkpoint {path}.* does not fit backbone: of 8 keys'):
            check_trained(runner(model), config())


def test_vanilla_checkpoint_may_be_tested_with_masks_but_not_resumed(save, caplog, tmp_path):
    model = Model()
    path = save(model.state_dict())
    model.backbone.mergers = nn.Linear(2, 2)
    with caplog.at_level(logging.WARNING):
        check_tested(runner(model), path)
    assert 'has no masks' in caplog.text
    with refused('2 missing in the checkpoint .backbone.mergers'):
        check_trained(runner(model), config(resume=True, load_from=path))
    model.head = nn.Linear(4, 5)
    with refused('2 of another shape'):
        check_tested(runner(model), path)
