"""Information-bottleneck statistics in detectors: from their annotations, or kept from a classifier."""

import pytest
import torch
from mmengine.hooks import Hook

from mmltm.errors import UserError
from mmltm.merging import LTM
from tests.engine.small_detectors import DETECTORS, MASK_SHARES, SHARES, Scenes, detector
from tests.engine.small_runs import classifier as classifier_config
from tests.engine.small_runs import runner

IB = dict(type='mmltm.IBStatisticsHook')
KEEP = dict(IB, update_statistics=False)


def train(work_dir, name, model, hooks, **kwargs):
    """A finished training of a detector, two images an iteration and an iteration an epoch."""
    run = runner(work_dir, model=model, hooks=hooks, batch_size=2, data=Scenes(masks=name == 'mask_rcnn'),
                 default_scope='mmdet', collate='pseudo_collate', checkpoint=dict(interval=-1, save_last=False),
                 **kwargs)
    run.train()
    return run


def masks(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, LTM)}


class Epochs(Hook):
    """Notes, at each epoch's end, what the layers know of the classes; and what the first batch told them."""

    def __init__(self):
        self.targets, self.counts, self.centroids, self.learnt = [], [], [], []

    def before_train(self, runner):
        self.layers = [mask for mask in masks(runner.model).values() if mask.stats is not None]
        self.layers[0].register_forward_hook(lambda mask, args, output: self.targets.append(mask.targets))

    def after_train_epoch(self, runner):
        self.counts.append([layer.stats.counts.tolist() for layer in self.layers])
        self.centroids.append([layer.stats.centroids.clone() for layer in self.layers])
        self.learnt.append([bool(layer.step_weight.any()) for layer in self.layers])


@pytest.mark.parametrize('name', DETECTORS)
def test_statistics_follow_the_annotations_epoch_by_epoch(name, tmp_path, root):
    shares = MASK_SHARES if name == 'mask_rcnn' else SHARES
    epochs = Epochs()
    train(tmp_path, name, detector(name, root), [epochs, dict(IB, priority='HIGH')], epochs=3)
    told = epochs.targets[0]
    assert told.classes.tolist() == [0, 2]
    # The image without objects has no share in anything.
    torch.testing.assert_close(told.shares.sum(0), torch.tensor([shares[0], shares[2]]))
    assert sorted(told.shares.sum(1).tolist()) == pytest.approx([0, 1])
    assert len(epochs.layers) >= 3
    # Each map has one window here, with the classes of the boxes, whether there are masks or not.
    for counts in epochs.counts:
        assert all(layer == pytest.approx(SHARES) for layer in counts)
    for earlier, later in zip(epochs.centroids, epochs.centroids[1:]):
        assert all(not one.equal(other) for one, other in zip(earlier, later))
    # Masks step from the first epoch on: there was a pass before it.
    assert all(any(layers) for layers in epochs.learnt)


@pytest.fixture(scope='module')
def classifier(tmp_path_factory):
    """Checkpoint of a classifier of five classes that was trained with the hook, on EfficientViT-B0."""
    work_dir = tmp_path_factory.mktemp('classifier')
    runner(work_dir, epochs=3, hooks=[IB], model=classifier_config(
        merger=dict(ratio=0.7, num_classes=5), head=dict(num_classes=5))).train()
    return work_dir / 'epoch_3.pth'


def test_masks_of_a_classifier_are_kept(classifier, tmp_path, root):
    """Whatever the detector's classes, bit for bit, while all else learns."""
    model = detector('mask_rcnn', root, merger=dict(num_classes=5), init_cfg=dict(
        type='Pretrained', checkpoint=str(classifier), prefix='backbone.'))
    run = train(tmp_path, 'mask_rcnn', model, [KEEP], epochs=2)
    before = torch.load(classifier, weights_only=False)['state_dict']
    after = {key: value for key, value in run.model.state_dict().items() if key.startswith('backbone.')}
    kept = [key for key in after if '.mergers.' in key]
    assert any(key.endswith('.stats.centroids') for key in kept) and any(before[key].any() for key in kept)
    assert [key for key in kept if not after[key].equal(before[key])] == []
    weights = [key for key in after if key.endswith('.weight')]
    assert len([key for key in weights if not after[key].equal(before[key])]) > len(weights) / 2
    for mask in masks(run.model).values():
        assert mask.targets is None and not mask.training and mask.logits.grad is None


@pytest.mark.parametrize('num_classes, load_from, message', [
    (5, False, 'update_statistics=False, but backbone.stages.2.mergers.1 has none to keep: start from'),
    (3, True, r'cannot keep the statistics: .*\(5, 24, 16\) in the checkpoint, \(3, 24, 16\) in the model')])
def test_nothing_to_keep_is_an_error(num_classes, load_from, message, classifier, tmp_path, root):
    model = detector('mask_rcnn', root, merger=dict(num_classes=num_classes))
    with pytest.raises(UserError, match=message):
        train(tmp_path, 'mask_rcnn', model, [KEEP], load_from=str(classifier) if load_from else None)


def test_a_detector_without_masks_has_none_to_keep(tmp_path, root):
    with pytest.raises(UserError, match='but the model has none to keep'):
        train(tmp_path, 'ssdlite', detector('ssdlite', root, merger=dict(ratio=1.0)), [KEEP])


@pytest.mark.parametrize('setting', [dict(t_warm=1), dict(fit_projection=True)])
def test_settings_without_use_are_named(setting, tmp_path):
    with pytest.raises(ValueError, match=next(iter(setting))):
        runner(tmp_path, hooks=[dict(KEEP, **setting)])
