"""Options that cannot work are refused before a model is built."""

import pytest
from mmengine.config import Config

from mmltm.apis.preflight import check_amp, check_config, check_ratio, check_statistics, is_first_on_machine
from mmltm.errors import UserError
from tests.engine.small_runs import classifier, runner


def backbone(type='mmltm.LTMEfficientViT', **kwargs):
    return Config(dict(model=dict(backbone=dict(type=type, **kwargs))))


@pytest.mark.parametrize('settings', [
    {}, dict(ratio=1.0), dict(ratio=1), dict(ratio=[0.5, 1.0]), dict(merger=None),
    dict(merger=dict(ratio=0.1)), dict(merger='ToMe', ratio=0.7), dict(type='SomebodyElses', ratio=16),
])
def test_good_ratios(settings):
    check_ratio(backbone(**settings))


@pytest.mark.parametrize('settings, message', [
    (dict(ratio=0), 'model.backbone.ratio is 0, expected'),
    (dict(ratio=1.5), 'model.backbone.ratio is 1.5, expected'),
    (dict(ratio=[0.7, -0.1]), 'model.backbone.ratio is -0.1, expected'),
    (dict(ratio='0.7x'), "model.backbone.ratio is '0.7x', expected"),
    (dict(merger=dict(ratio=float('nan'))), 'model.backbone.merger.ratio is nan, expected'),
    (dict(merger='ToMe', ratio=2), 'model.backbone.ratio is 2, expected'),
    (dict(merger=5), 'model.backbone.merger is 5, expected a config'),
])
def test_bad_ratios(settings, message):
    with pytest.raises(UserError, match=message):
        check_ratio(backbone(**settings))


def test_mixed_precision_needs_a_gpu(monkeypatch):
    monkeypatch.setattr('mmltm.apis.preflight.get_device', lambda: 'cpu')
    check_amp(Config(dict(optim_wrapper=dict(type='OptimWrapper'))))
    check_amp(Config(dict(optim_wrapper=dict(type=None))))
    with pytest.raises(UserError, match='needs a GPU'):
        check_amp(Config(dict(optim_wrapper=dict(type='AmpOptimWrapper'))))
    monkeypatch.setattr('mmltm.apis.preflight.get_device', lambda: 'cuda')
    check_amp(Config(dict(optim_wrapper=dict(type='AmpOptimWrapper'))))


def test_all_checks_of_a_config(detection):
    check_config(detection, ('train', 'val'))
    for change in (dict(model=dict(backbone=dict(type='mmltm.X', ratio=2))), dict(load_from='gone.pth'),
                   dict(val_evaluator=dict(ann_file='gone.json'))):
        broken = detection.copy()
        broken.update(change)
        with pytest.raises(UserError):
            check_config(broken, ('train', 'val'))


@pytest.mark.parametrize('launcher, variable', [
    ('pytorch', 'LOCAL_RANK'), ('slurm', 'SLURM_LOCALID'), ('mpi', 'OMPI_COMM_WORLD_LOCAL_RANK')])
def test_one_process_of_a_machine_checks(monkeypatch, launcher, variable):
    monkeypatch.setenv(variable, '1')
    assert not is_first_on_machine(launcher)
    monkeypatch.setenv(variable, '0')
    assert is_first_on_machine(launcher)
    assert is_first_on_machine('none')


def test_statistics_need_the_hook_that_fills_them(tmp_path):
    hook = dict(type='mmltm.IBStatisticsHook')
    with pytest.raises(UserError, match='masks of 3 layers keep class statistics .* nothing fills them'):
        check_statistics(runner(tmp_path))
    check_statistics(runner(tmp_path, hooks=[hook]))
    check_statistics(runner(tmp_path, classifier(merger=dict(num_classes=None))))
