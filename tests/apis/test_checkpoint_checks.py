"""Checkpoints that are missing, broken, or of another model are found before they are used."""

import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModule
from torch import nn

from mmltm.apis.checkpoint_checks import check_checkpoint_files, check_trained
from mmltm.errors import UserError
from mmltm.merging import LTM
from mmltm.models import checkpoints as checkpoint_checks


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


LOGGER = logging.getLogger('checkpoint checks')


def runner(model):
    return SimpleNamespace(model=model, logger=LOGGER)


def check_tested(model, path):
    checkpoint_checks.check_tested(model, path, checkpoint_checks.read_checkpoint(path), LOGGER)


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


def test_own_checkpoint_with_harmless_extras(save, caplog):
    model = Model()
    state = {f'module.{key}': value for key, value in model.state_dict().items()}  # as DDP names them
    state = {key: value for key, value in state.items() if 'num_batches_tracked' not in key}
    state.update({'ema_head_weight': torch.zeros(1), 'data_preprocessor.mean': torch.zeros(3)})
    check_tested(model, save(dict(state_dict=state, optimizer=dict())))
    check_tested(model, save(state))  # bare, as others save them
    assert not caplog.records


def test_larger_checkpoint_is_logged(save, caplog):
    model = Model()
    path = save(dict(state_dict=dict(model.state_dict(), **{'mask_head.weight': torch.zeros(1)})))
    check_tested(model, path)
    assert '1 unknown to the model (mask_head.weight)' in caplog.text


def test_checkpoint_lacks_keys(save):
    state = Model().state_dict()
    del state['head.weight'], state['backbone.convs.1.running_var']
    with refused('of 10 keys 2 missing in the checkpoint .backbone.convs.1.running_var, head.w'):
        check_tested(Model(), save(dict(state_dict=state)))


def test_checkpoint_of_other_shapes(save):
    path = save(dict(state_dict=dict(Model(classes=80).state_dict(), extra=torch.zeros(1))))
    with pytest.raises(UserError) as error:
        check_tested(Model(), path)
    assert str(error.value) == (
        f'checkpoint {path} is of another model than the config: of 10 keys 2 of another shape '
        '(head.weight (80, 4) against (3, 4), head.bias (80,) against (3,)), 1 unknown to the model (extra)')


def test_checkpoint_of_an_unrelated_model(save):
    path = save(dict(state_dict=nn.Linear(2, 2).state_dict()))
    with refused('10 missing in the checkpoint .*, 2 unknown to the model .bias, weight.'):
        check_tested(Model(), path)


@pytest.mark.parametrize('content', [b'', b'no checkpoint'])
def test_not_a_checkpoint(tmp_path, content):
    path = tmp_path / 'x.pth'
    path.write_bytes(content)
    with refused('cannot read checkpoint .*x.pth: '):
        check_tested(Model(), str(path))


def test_checkpoint_without_a_dict(save):
    with refused('is not a checkpoint: it holds a list, no dict'):
        check_tested(Model(), save([1, 2]))


def test_resuming(save):
    model = Model()
    path = save(dict(state_dict=model.state_dict(), message_hub={}, optimizer={}, meta={}))
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
        check_tested(model, path)
    assert 'has no masks' in caplog.text
    with refused('2 missing in the checkpoint .backbone.mergers'):
        check_trained(runner(model), config(resume=True, load_from=path))
    model.head = nn.Linear(4, 5)
    with refused('2 of another shape'):
        check_tested(model, path)


class Masked(Model):
    """A model whose backbone merges: three masks, the last two with statistics if classes are given."""

    def __init__(self, num_classes=None, target=(2, 3), **kwargs):
        super().__init__(**kwargs)
        self.backbone.mergers = nn.ModuleList(
            LTM(source=(3, 3), target=target, embed_dims=8, first=not i, num_classes=num_classes) for i in range(3))

    def learn(self):
        with torch.no_grad():
            for merger in self.backbone.mergers:
                merger.logits.normal_()
                if merger.stats is not None:
                    merger.step.normal_()
                    merger.stats.centroids.normal_()
                    merger.stats.counts.fill_(2)
                    merger.report.sums.normal_()
        return self


@pytest.fixture
def classifier(save):
    """Path of a classification checkpoint with masks and statistics of ten classes, and its state dict."""
    state = Masked(num_classes=10).learn().state_dict()
    return save(dict(state_dict=state)), state


def detector(path, **kwargs):
    pretrained = dict(type='Pretrained', checkpoint=path, prefix='backbone.')
    return Masked(classes=80, init_cfg=pretrained, **kwargs)


def test_detector_takes_masks_and_statistics_along(classifier, caplog):
    path, state = classifier
    model = detector(path, num_classes=10)
    with caplog.at_level(logging.INFO):
        check_trained(runner(model), config())
    assert (f'Checkpoint {path} fills 46 of 46 tensors of backbone, masks of 3 of 3 layers and class statistics of '
            '2 of 2 among them') in caplog.text
    model = detector(path, num_classes=10)
    model.init_weights()
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, state[f'backbone.{key}']), key


def test_statistics_of_other_classes_start_anew_and_masks_stay(classifier, caplog):
    path, state = classifier
    model = detector(path, num_classes=4)
    check_trained(runner(model), config())
    assert 'masks of 3 of 3 layers and class statistics of 0 of 2' in caplog.text
    assert '4 statistics of another kind (statistics of layer mergers.1.stats: centroids' in caplog.text
    assert '(10, 6, 8) in the checkpoint, (4, 6, 8) in the model' in caplog.text
    model.init_weights()
    assert torch.equal(model.backbone.mergers[1].step, state['backbone.mergers.1.step'])
    assert not model.backbone.mergers[1].stats.started
    with refused('is of another model than the config: .* 4 statistics of another kind'):
        check_tested(model, path)


def test_steps_of_masks_are_not_lost(classifier):
    with refused(r'has no place \(2: mergers.1.step, mergers.2.step\): set num_classes of its merger'):
        check_trained(runner(detector(classifier[0])), config())


def test_masks_of_another_ratio(classifier):
    with refused('masks in checkpoint .* do not fit backbone .another ratio.*mergers.0.logits .9, 6. against .9, 4.'):
        check_trained(runner(detector(classifier[0], num_classes=10, target=(2, 2))), config())


def test_vanilla_backbone_starts_masks_at_local_averages(save, caplog):
    path = save(dict(state_dict=Model().state_dict()))
    check_trained(runner(detector(path, num_classes=4)), config())
    assert 'fills 8 of 46 tensors of backbone, masks of 0 of 3 layers' in caplog.text
    assert '38 missing in the checkpoint (mergers.0.logits, ' in caplog.text


def test_part_of_a_backbone_is_named_or_refused(save, caplog):
    def without(*keys):
        state = Model().state_dict()
        for key in keys:
            del state[f'backbone.convs.{key}']
        return detector(save(dict(state_dict=state)))

    check_trained(runner(without('1.bias')), config())
    assert 'fills 7 of 14 tensors' in caplog.text and 'convs.1.bias' in caplog.text
    with refused('does not fit backbone: of 14 keys 9 missing in the checkpoint .convs.0.bias, convs.1.bias'):
        check_trained(runner(without('1.bias', '0.bias', '2.bias')), config())
    small = save(dict(state_dict={**Model().state_dict(), 'backbone.convs.2.bias': torch.zeros(2)}))
    with refused('does not fit backbone: .* of another shape .convs.2.bias .2,. against .4,..'):
        check_trained(runner(detector(small)), config())


def test_testing_without_statistics_but_not_with_some_of_the_masks(save, caplog):
    state = Masked().learn().state_dict()
    check_tested(Masked(num_classes=4), save(state))
    assert 'has no class statistics' in caplog.text
    del state['backbone.mergers.2.logits']
    with refused('1 missing in the checkpoint .backbone.mergers.2.logits'):
        check_tested(Masked(), save(state))
