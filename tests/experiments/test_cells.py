"""What a grid holds, what cells are named, and what counts as the same settings."""

import json
from dataclasses import replace

import pytest
import torch

from harness.cell import Cell, grid
from harness.distillation_hook import DistillationHook
from harness.dry_run import dry_run
from harness.resolve import is_hook, resolve
from mmltm.apis.config import load_config
from mmltm.engine.hooks import IBStatisticsHook, LTMPBudgetHook, MaskTuningHook
from mmltm.errors import UserError

LTM = dict(type='LTM', ratio=0.5, num_classes=3)


def config_of(cell):
    return resolve(cell).cfg


def fingerprint(cell):
    return resolve(cell).fingerprint


def cells_of(mergers, ratios=(0.7, 0.5), epochs=(0, ), seeds=(0, ), config='tuning.py'):
    return grid(load_config(config), config, 'vanilla.pth', mergers, ratios, epochs, seeds)


def test_grid(inside):
    cells = cells_of(['LTM', 'AvgPool', 'SoftMerging'], epochs=(0, 2), seeds=(3, 4))
    found = [(cell.label, cell.ratio, cell.epochs, cell.seed) for cell in cells]
    assert found[:3] == [('vanilla', None, 0, 0), ('vanilla', None, 2, 3), ('vanilla', None, 2, 4)]
    assert [entry for entry in found if entry[0] == 'LTM'] == [
        ('LTM', ratio, *rest) for ratio in (0.7, 0.5) for rest in ((0, 0), (2, 3), (2, 4))]
    # Random projections differ off the shelf, too; the ratios asked for make no difference.
    assert [entry for entry in found if entry[0] == 'SoftMerging'] == [
        ('SoftMerging', ratio, count, seed) for ratio in (0.5, 0.25) for count in (0, 2) for seed in (3, 4)]
    mergers = {cell.label: cell.merger for cell in cells if cell.ratio == 0.5}
    assert mergers['LTM'] == dict(type='LTM', ratio=0.5, num_classes=3, window=8)
    assert mergers['AvgPool'] == dict(type='AvgPool', ratio=0.5, window=8)
    assert mergers['SoftMerging'] == dict(type='SoftMerging', p=2)
    assert len({cell.key for cell in cells}) == len(cells)


@pytest.mark.parametrize('change, message', [
    (dict(mergers=['LTN']), 'unknown merger LTN: choose from LTM'),
    (dict(ratios=[0.5, 1.5]), r'ratios must lie in \(0, 1\], got 0.5 1.5'),
    (dict(epochs=[-1]), 'numbers of epochs')])
def test_mistakes(inside, change, message):
    with pytest.raises(UserError, match=message):
        cells_of(**{'mergers': ['LTM'], **change})


def test_what_cannot_learn_stays_off_the_shelf(inside):
    resolved, impossible = dry_run(cells_of(['LTM', 'AvgPool', 'EViT'], [0.5], epochs=(0, 1, 2)))
    cells = [known.cell for known in resolved]
    assert [(cell.label, cell.epochs) for cell in cells if cell.label != 'EViT'] == [
        ('vanilla', 0), ('LTM', 0), ('LTM', 1), ('LTM', 2), ('AvgPool', 0)]
    assert set(impossible) == {cell.key for cell in cells if cell.label == 'EViT'}
    assert all('EViT' in reason for reason in impossible.values())
    trained, _ = dry_run(cells_of(['AvgPool'], [0.5], epochs=(2, ), config='scratch.py'))
    assert [(known.cell.label, known.cell.epochs) for known in trained] == [('vanilla', 2), ('AvgPool', 2)]


def test_problems_before_any_cell_runs(inside, tmp_path):
    cell = Cell('tuning.py', 'LTM', LTM, 0.5, checkpoint='vanilla.pth')
    with pytest.raises(UserError, match='two cells are named tuning-ltm-r0.5-e0-s0'):
        dry_run([cell, replace(cell, merger=dict(LTM, eta=0))])
    with pytest.raises(UserError, match='checkpoint none.pth does not exist'):
        fingerprint(replace(cell, checkpoint='none.pth'))
    torch.save(dict(state_dict=dict(weight=torch.ones(2))), tmp_path / 'other.pth')
    with pytest.raises(UserError, match='is of another model'):
        dry_run([replace(cell, checkpoint=str(tmp_path / 'other.pth'))])
    with pytest.raises(UserError, match='nowhere'):
        dry_run([cell], data_root='nowhere')


def test_fingerprint_depends_on_settings_and_not_on_places(inside, tmp_path):
    cell = Cell('tuning.py', 'LTM', LTM, 0.5, 1, checkpoint='vanilla.pth')
    known = fingerprint(cell)
    assert known['model'] == 'LTMEfficientViT b0' and known['merger'] == LTM and len(known['checkpoint']) == 12
    moved = tmp_path / 'moved.pth'
    moved.write_bytes((inside / 'vanilla.pth').read_bytes())
    elsewhere = replace(cell, checkpoint=str(moved), overrides={'test_dataloader.dataset.data_root': str(inside)})
    assert fingerprint(elsewhere) == dict(known, key=elsewhere.key, overrides={
        'test_dataloader.dataset.data_root': inside.name})
    assert str(inside) not in json.dumps(fingerprint(elsewhere))
    for part, overrides in (('model', {'model.backbone.merger.eta': 0}), ('test', {'test_evaluator.topk': 2}),
                            ('training', {'optim_wrapper.optimizer.lr': 1})):
        changed = fingerprint(replace(cell, overrides=overrides))['digest']
        assert {name for name, value in changed.items() if value != known['digest'][name]} == {part}
    assert fingerprint(replace(cell, epochs=0))['digest']['training'] is None


def test_config_of_a_cell(inside):
    def hooks(cfg, kind):
        return [hook for hook in cfg.custom_hooks if is_hook(hook, kind)]

    cell = Cell('tuning.py', 'LTM', LTM, 0.5, 2, 7, 'vanilla.pth', {'model.backbone.merger.eta': 0},
                [dict(type='mmltm.DistillationHook', weight=2.0)])
    cfg = config_of(cell)
    assert cfg.model.backbone.merger == dict(LTM, eta=0) and cfg.model.backbone.ratio is None
    assert cfg.train_cfg.max_epochs == 2 and cfg.randomness.seed == 7 and cfg.val_cfg is None
    assert 'name' not in config_of(Cell('tuning.py', overrides={'visualizer.name': 'shared'})).visualizer
    assert hooks(cfg, MaskTuningHook) and hooks(cfg, IBStatisticsHook) and not hooks(cfg, LTMPBudgetHook)
    assert hooks(cfg, DistillationHook)[0].checkpoint == 'vanilla.pth'
    cfg = config_of(Cell('tuning.py', 'LTMP', dict(type='LTMP', ratio=0.5), 0.5, 2))
    assert hooks(cfg, LTMPBudgetHook) and not hooks(cfg, IBStatisticsHook)
    assert config_of(Cell('tuning.py')).train_cfg is None
    assert LTM == dict(type='LTM', ratio=0.5, num_classes=3), 'arguments stay as they were'
