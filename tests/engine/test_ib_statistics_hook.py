"""Algorithm 1 in mmengine's loops: targets, warm-up, ends of epochs, logs, checkpoints, errors."""

import json
import re

import pytest
import torch
from mmengine.hooks import Hook

from mmltm.errors import UserError
from mmltm.ib import ClassStatistics
from mmltm.merging import LTM
from tests.engine.small_runs import Images, assert_same, classifier, runner

IB = dict(type='mmltm.IBStatisticsHook', report_interval=1)
LAYER = 'backbone.stages.2.mergers.1'


class Watch(Hook):
    """Notes what the masks are given in every iteration, and whether they merge."""

    def __init__(self):
        self.active, self.targets, self.after = [], [], []

    def before_train(self, runner):
        self.mask = runner.model.get_submodule(LAYER)
        self.mask.register_forward_hook(lambda mask, args, output: self.targets.append(mask.targets))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.active.append(self.mask.active)
        self.after.append(self.mask.targets)


def masks(run):
    return {name: module for name, module in run.model.named_modules() if isinstance(module, LTM)}


def test_epochs_of_statistics_and_warm_up(tmp_path):
    watch = Watch()
    data = Images(augment=False)
    run = runner(tmp_path, hooks=[dict(IB, t_warm=2), watch], epochs=4, data=data)
    run.train()
    assert watch.active == [False] * 4 + [True] * 4
    assert watch.after == [None] * 8
    assert len(masks(run)) == 4 and len([mask for mask in masks(run).values() if mask.stats]) == 3
    for name, mask in masks(run).items():
        if mask.stats is None:
            continue
        assert mask.stats.name == name + '.stats'
        assert mask.stats.ready and mask.stats.counts.tolist() == torch.bincount(data.labels).tolist()
        assert mask.stats.epoch_counts.eq(0).all() and mask.report.inputs.counts.sum() == len(data)
        # The last one's windows of 2 x 2 tokens are too small to merge.
        assert mask.step_weight.any() or name == 'backbone.stages.3.mergers.1'
    labels = [int(targets.classes[row.argmax()]) for targets in watch.targets[:2] for row in targets.shares]
    assert sorted(labels) == sorted(data.labels.tolist())


@pytest.mark.parametrize('augment', ['Mixup', 'CutMix'])
def test_targets_are_those_after_batch_augmentation(tmp_path, augment):
    watch = Watch()
    model = classifier(train_cfg=dict(augments=[dict(type=augment, alpha=1.0)]))
    run = runner(tmp_path, model=model, hooks=[IB, watch], epochs=1, batch_size=16)
    scores = []
    run.model.register_forward_pre_hook(
        lambda module, args, kwargs: scores.append(torch.stack([s.gt_score for s in kwargs['data_samples']])),
        with_kwargs=True)
    run.train()
    shares = watch.targets[0].shares
    torch.testing.assert_close(shares, scores[0][:, watch.targets[0].classes])
    assert ((shares > 0.01) & (shares < 0.99)).any()


def test_iteration_based_loops_count_iterations(tmp_path):
    class Epochs(Hook):
        seen = []

        def after_train_iter(self, run, batch_idx, data_batch=None, outputs=None):
            stats = run.model.get_submodule(LAYER).stats
            self.seen.append((stats.counts.sum().item(), stats.epoch_counts.sum().item()))

    # By default an epoch is a pass over the training set: two iterations of eight images.
    runner(tmp_path / 'a', hooks=[dict(IB, initial_images=11), Epochs()], iters=5).train()
    assert Epochs.seen == [(11, 8), (16, 0), (16, 8), (16, 0), (16, 8)]
    Epochs.seen.clear()
    watch = Watch()
    runner(tmp_path / 'b', hooks=[dict(IB, interval=3, t_warm=1), Epochs(), watch], iters=5).train()
    assert Epochs.seen == [(0, 8), (0, 16), (24, 0), (24, 8), (24, 16)]
    assert watch.active == [False] * 3 + [True] * 2


@pytest.mark.parametrize('initial_images, first', [(2000, 1), (0, 3)])
def test_log_and_visualizer_name_every_layer(tmp_path, initial_images, first):
    """From the first epoch on if there is a pass before it, else from the third."""
    run = runner(tmp_path, hooks=[dict(IB, initial_images=initial_images)], epochs=4)
    run.train()
    scalars = tmp_path / run.timestamp / 'vis_data' / 'scalars.json'
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    reports = [line for line in lines if f'ib_loss/{LAYER}' in line]
    assert [line['step'] for line in reports] == [2 * epoch for epoch in range(first, 5)]
    layers = [name for name, mask in masks(run).items() if mask.stats]
    for key in ('ib_loss', 'ib_bound', 'mi_input', 'mi_label', 'mask_step'):
        assert all(isinstance(reports[0][f'{key}/{layer}'], float) for layer in layers)
    log = (tmp_path / run.timestamp / f'{run.timestamp}.log').read_text()
    assert 'IB statistics of epoch 3\n' in log and f'\n{LAYER} ' in log
    assert ('2 sweeps over 16 of 16 training images, 4 batches of 8, forward' in log) == (initial_images > 0)


def test_checkpoints_hold_plain_tensors_only(tmp_path):
    runner(tmp_path, hooks=[IB], epochs=1).train()
    saved = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    assert all(type(value) is torch.Tensor for value in saved['state_dict'].values())
    assert all(type(value) is torch.Tensor for value in saved['random_states'].values())
    assert f'{LAYER}.stats.centroids' in saved['state_dict'] and f'{LAYER}.step' in saved['state_dict']


def test_fitted_projection(tmp_path):
    run = runner(tmp_path / 'first', hooks=[dict(IB, fit_projection=True)], epochs=1)
    before = run.model.get_submodule(LAYER).stats.projection.clone()
    run.train()
    fitted = run.model.get_submodule(LAYER).stats.projection.clone()
    assert not torch.allclose(fitted, before)
    torch.testing.assert_close(fitted.T @ fitted, torch.eye(16), atol=1e-5, rtol=0)
    again = runner(tmp_path / 'second', hooks=[dict(IB, fit_projection=True)], epochs=2, resume=True,
                   load_from=str(tmp_path / 'first' / 'epoch_1.pth'))
    again.train()
    # Statistics of the old space must stay.
    assert again.model.get_submodule(LAYER).stats.projection.equal(fitted)


def test_an_interrupted_epoch_is_not_counted_twice(tmp_path):
    """Epoch-based loops repeat the epoch in whose middle they were interrupted."""
    checkpoint = dict(by_epoch=False, interval=3)
    data = Images(augment=False)
    runner(tmp_path / 'first', hooks=[IB], epochs=2, checkpoint=checkpoint, data=data).train()
    again = runner(tmp_path / 'second', hooks=[IB], epochs=2, resume=True, data=data,
                   load_from=str(tmp_path / 'first' / 'iter_3.pth'))
    again.train()
    assert again.model.get_submodule(LAYER).stats.counts.sum() == len(data)


@pytest.mark.parametrize('other, message', [
    (dict(num_classes=5), r'centroids .*\(3, 12, 16\) in the checkpoint, \(5, 12, 16\) in the model'),
    (dict(ratio=0.7), r'centroids .*\(3, 12, 16\) in the checkpoint, \(3, 24, 16\) in the model'),
])
def test_statistics_of_other_classes_or_grids(tmp_path, other, message):
    """Resuming with them is an error, before anything is loaded; a transfer starts anew."""
    runner(tmp_path / 'first', hooks=[IB], epochs=1).train()
    path = str(tmp_path / 'first' / 'epoch_1.pth')
    classes = other.get('num_classes', 3)
    model = classifier(merger=other, head=dict(num_classes=classes))
    resumed = runner(tmp_path / 'second', model=model, hooks=[IB], resume=True, load_from=path)
    with pytest.raises(UserError, match=f'cannot resume: statistics of layer {LAYER}.stats: ' + message):
        resumed.train()
    transferred = runner(tmp_path / 'third', model=model, hooks=[IB], epochs=1, load_from=path)
    transferred.call_hook('before_run')
    transferred.load_or_resume()
    log = (tmp_path / 'third' / transferred.timestamp / f'{transferred.timestamp}.log').read_text()
    assert re.search(f'{LAYER}.stats: {message}: they start anew', log)
    statistics = [module for module in transferred.model.modules() if isinstance(module, ClassStatistics)]
    assert len(statistics) == 3 and all(module.counts.eq(0).all() for module in statistics)


@pytest.mark.parametrize('merger', [dict(num_classes=None), dict(ratio=1.0)])
def test_without_statistics_it_says_so_and_lets_masks_learn(tmp_path, merger):
    """The switch that turns the step off: no line but one, and the training of a run without the hook."""
    states = []
    for name in ('IBStatisticsHook', 'RandomStateHook'):
        run = runner(tmp_path / name, classifier(merger=merger), [dict(type=f'mmltm.{name}')], epochs=1)
        run.train()
        states.append(run.model.state_dict())
    assert_same(*states)
    log = next(tmp_path.glob('IBStatisticsHook/*/*.log')).read_text()
    assert log.count('IBStatisticsHook has nothing to do') == 1 and 'IB statistics' not in log


def test_statistics_of_other_classes_than_the_head(tmp_path):
    with pytest.raises(UserError, match=r'4 classes .*, but the head tells 3 apart'):
        runner(tmp_path, classifier(merger=dict(num_classes=4)), [IB]).train()


@pytest.mark.parametrize('damage, message', [
    ('label', 'class index 3 is outside the 3 classes'),
    ('nan', rf'layer {LAYER}.*NaN or infinite .*\(B, \d+, 16\)')])
def test_bad_data_stops_the_run_before_the_next_checkpoint(tmp_path, damage, message):
    data = Images(augment=False)
    if damage == 'label':
        data.labels[5] = 3
    else:
        data.images[5, 0, 0, 0] = torch.nan
    model = classifier(head=dict(num_classes=3, loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1)))
    run = runner(tmp_path, model=model, hooks=[IB], epochs=1, data=data, batch_size=16,
                 checkpoint=dict(by_epoch=False, interval=1))
    with pytest.raises(UserError, match=message):
        run.train()
    assert not list(tmp_path.glob('*.pth'))


@pytest.mark.parametrize('kwargs', [
    dict(t_warm=-1), dict(interval=0), dict(report_interval=0), dict(initial_images=-1)])
def test_bad_arguments_are_named(tmp_path, kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        runner(tmp_path, hooks=[dict(IB, **kwargs)])


@pytest.mark.parametrize('update_buffers', [False, True])
def test_average_of_weights_has_the_statistics_of_the_epoch(tmp_path, update_buffers):
    """The saved model is the average, as it was validated: its statistics are those in use, its weights are not."""
    ema = dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=0.1, update_buffers=update_buffers)
    run = runner(tmp_path, hooks=[IB, ema], epochs=2)
    run.train()
    saved = torch.load(tmp_path / 'epoch_2.pth', weights_only=False)['state_dict']
    live = run.model.state_dict()
    statistics = [key for key in live if re.search(r'\.(centroids|counts|label_q|assigned)$', key)]
    assert len(statistics) > 10 and saved[f'{LAYER}.stats.assigned'].any()
    assert_same({key: saved[key] for key in statistics}, {key: live[key] for key in statistics})
    assert not saved[f'{LAYER}.logits'].equal(live[f'{LAYER}.logits'])
