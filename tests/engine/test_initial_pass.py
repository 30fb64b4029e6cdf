"""Statistics before the first step: what they are, and what they leave alone."""

import pytest
import torch
from mmengine.hooks import Hook

from mmltm.engine import initial_pass
from mmltm.engine.initial_pass import _loader
from mmltm.ib import class_centroids, conditional_assignment, soft_assignment
from mmltm.merging import LTM
from mmltm.merging.step import join_windows, kind_of, project_map
from tests.engine.small_runs import Images, assert_same, classifier, final_state, runner

IB = dict(type='mmltm.IBStatisticsHook', report_interval=1)
LAYER = 'backbone.stages.2.mergers.1'
TITLE = 'IB statistics before the first step: '


class Start(Hook):
    """Notes the model's state before the first iteration, and the images of all iterations."""
    priority = 'VERY_LOW'

    def __init__(self):
        self.state, self.images, self.layers = None, [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if self.state is None:
            self.state = {key: value.clone() for key, value in runner.model.state_dict().items()}
            self.modes = [module.training for module in runner.model.modules()]
        self.images.append(torch.stack(data_batch['inputs']) if isinstance(data_batch['inputs'], list)
                           else data_batch['inputs'])

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        layer = runner.model.get_submodule(LAYER)
        self.layers.append(bool(layer.mode == 'instance' and layer.step_weight.any()))


def train(work_dir, start, hook=(), epochs=1, **kwargs):
    run = runner(work_dir, hooks=[{**IB, **dict(hook)}, start], epochs=epochs, **kwargs)
    run.train()
    return run


def log_of(run, work_dir):
    return (work_dir / run.timestamp / f'{run.timestamp}.log').read_text()


@pytest.mark.parametrize('mode', ['instance', 'static'])
def test_statistics_are_those_of_the_whole_set_before_any_step(tmp_path, mode):
    """Centroids and Q of every layer against a computation in float64 that has all images at once."""
    data, start = Images(24, augment=False, noise=200), Start()
    run = train(tmp_path, start, dict(initial_images=None), data=data,
                model=classifier(merger=dict(mode=mode, num_classes=3)))
    assert all(start.modes) and start.state[f'{LAYER}.stats.assigned'].any()
    run.model.load_state_dict({key: value for key, value in start.state.items() if '.stats.' not in key}, strict=False)
    layers = {name: mask for name, mask in run.model.named_modules() if isinstance(mask, LTM) and mask.stats}
    for mask in layers.values():
        mask.stats.reset()
    seen = {}

    def keep(mask, args, output):
        x, operator = args[0], output[0]
        tiles = operator.cut(project_map(x, mask.stats.projection))
        merged = [region.merge.mT @ tile for region, tile in zip(operator.regions, tiles)]
        seen[mask] = join_windows(merged, [kind_of(region)[1] for region in operator.regions], mask.target)

    for mask in layers.values():
        mask.register_forward_hook(keep)
    with torch.no_grad():
        run.model.eval()(run.model.data_preprocessor(dict(inputs=data.images))['inputs'])
    for name, mask in layers.items():
        labels = data.labels.repeat_interleave(len(seen[mask]) // len(data))
        merged = seen[mask].double()
        centroids = class_centroids(merged, labels, 3)
        origin = centroids[labels].mean(0)
        phi = soft_assignment(merged - origin, centroids - origin, mask.stats.beta, normalize=True)
        torch.testing.assert_close(start.state[f'{name}.stats.centroids'].double(), centroids, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(start.state[f'{name}.stats.label_q'].T.double(),
                                   conditional_assignment(phi, labels), rtol=1e-3, atol=1e-4)


def test_masks_step_from_the_first_iteration(tmp_path):
    start, without = Start(), Start()
    train(tmp_path / 'with', start)
    train(tmp_path / 'without', without, dict(initial_images=0))
    assert start.layers == [True] * 2 and without.layers == [False] * 2, 'W learns where there is a step'


def test_training_is_not_disturbed(tmp_path):
    """The same weights and images, whatever the pass has drawn at random; batch norms keep their statistics."""
    starts = Start(), Start()
    for index, start in enumerate(starts):
        train(tmp_path / str(index), start, dict(initial_images=7 * index), epochs=2)
    one, other = starts
    assert len(one.images) == 4 and all(a.equal(b) for a, b in zip(one.images, other.images))
    changed = {key for key in one.state if not one.state[key].equal(other.state[key])}
    assert changed and all('.stats.' in key or '.report.inputs.' in key for key in changed)


def test_images_are_spread_evenly_and_shared_by_ranks(tmp_path):
    run = runner(tmp_path, data=Images(20))
    assert sorted(_loader(run, None).dataset.indices) == list(range(20))
    assert sorted(_loader(run, 10).dataset.indices) == list(range(0, 20, 2))
    assert _loader(run, 10).dataset.indices != sorted(_loader(run, 10).dataset.indices)
    shares = []
    for run._rank in range(3):
        run._world_size = 3
        shares.append(_loader(run, 8).dataset.indices)
    assert [len(share) for share in shares] == [2, 2, 2]
    assert sorted(sum(shares, [])) == [index * 20 // 6 for index in range(6)]


def test_no_pass_where_statistics_are_there_or_coming(tmp_path, monkeypatch):
    monkeypatch.setattr(initial_pass, 'PROGRESS', 0.)
    run = train(tmp_path / 'first', Start())
    log = log_of(run, tmp_path / 'first')
    assert f'{TITLE}batch 3 of 4' in log and f'{TITLE}done in' in log
    saved = str(tmp_path / 'first' / 'epoch_1.pth')
    for name, hook, kwargs in (('warm', dict(t_warm=1), {}), ('loaded', {}, dict(load_from=saved)),
                               ('resumed', {}, dict(load_from=saved, resume=True, epochs=2))):
        start = Start()
        run = train(tmp_path / name, start, hook, **kwargs)
        assert TITLE not in log_of(run, tmp_path / name)
        assert (start.state[f'{LAYER}.stats.counts'].sum() > 0) == (name != 'warm')


def test_interrupted_it_starts_again(tmp_path):
    class Interrupted(Images):
        reads = 0

        def __getitem__(self, index):
            self.reads += 1
            if self.reads == 21:  # in the second sweep
                raise KeyboardInterrupt
            return super().__getitem__(index)

    train(tmp_path / 'whole', Start(), epochs=1)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / 'broken', Start(), data=Interrupted())
    train(tmp_path / 'broken', Start(), resume=True)
    assert_same(*(final_state(tmp_path / name, 'epoch_1.pth') for name in ('whole', 'broken')))
