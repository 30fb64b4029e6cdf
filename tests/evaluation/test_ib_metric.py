"""The information bottleneck over a data set: against the pure functions, for any merger, in mmengine's test
loop."""

import pytest
import torch
from mmpretrain.models import MobileViT, SwinTransformer, VisionTransformer
from mmpretrain.structures import DataSample

from mmltm.errors import UserError
from mmltm.evaluation import IBMetric, ib_metric
from mmltm.evaluation.layers import find_layers, window_tokens
from mmltm.ib import class_centroids, conditional_assignment, ib_bound, ib_loss, soft_assignment
from mmltm.models import EfficientViT, LTMEfficientViT, LTMMobileViT
from tests.engine.small_runs import Images, runner
from tests.evaluation.measuring import Classifier, Loader, measure

KEYS = ('ib_loss', 'ib_bound', 'c0', 'mi_input', 'mi_label')
HOOK = dict(type='mmltm.IBMetricHook')


@pytest.mark.parametrize('beta, normalize, center', [
    (1.0, True, True), (1.0, True, False), (5e5, False, False)])
def test_two_passes_in_batches_equal_the_pure_functions(beta, normalize, center):
    torch.manual_seed(0)
    loader = Loader()
    model = Classifier(LTMEfficientViT('b0', ratio=0.7)).eval()
    merger = model.backbone.stages[2].mergers[1]
    features = []
    handle = merger.register_forward_hook(lambda module, args, output: features.append((
        window_tokens(args[0], (5, 7)), window_tokens(output[0].merge(args[0]), (4, 6)))))
    with torch.no_grad():
        for batch in loader:
            model.val_step(batch)
    handle.remove()
    space = dict(beta=beta, normalize=normalize, center=center)
    metrics = measure(model, loader, stat_dim=None, input_dim=None, **space)

    targets = loader.dataset.labels
    inputs, merged = (torch.cat(x).double().flatten(1) for x in zip(*features))
    if center:
        inputs, merged = inputs - inputs.mean(0), merged - merged.mean(0)
    phi_input, phi_merged = (
        soft_assignment(x, class_centroids(x, targets), beta, normalize) for x in (inputs, merged))
    loss, mi_input, mi_label = ib_loss(phi_merged, phi_input, targets)
    bound, c0 = ib_bound(phi_merged, phi_input, targets, conditional_assignment(phi_merged, targets))
    for key, value in zip(KEYS, (loss, bound, c0, mi_input, mi_label)):
        actual = metrics[f'ib/backbone.stages.2.mergers.1/{key}']
        assert actual == pytest.approx(value.item(), rel=1e-3, abs=1e-4)
    assert 0.05 < mi_label.item() < 1.0, 'the case must not be trivial'


def test_batches_of_any_size_give_the_same():
    torch.manual_seed(0)
    model = Classifier(LTMEfficientViT('b0', ratio=0.7)).eval()
    one, other = (measure(model, Loader(batch=batch)) for batch in (5, 12))
    assert one == pytest.approx(other, rel=1e-3, abs=1e-4)


def vit():
    return VisionTransformer(dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32), 64, 8)


def swin():
    return SwinTransformer(dict(embed_dims=8, depths=[1] * 4, num_heads=[1] * 4), 64, window_size=2)


@pytest.mark.parametrize('backbone, layers', [
    (lambda: LTMEfficientViT('b0', ratio=0.7), [f'stages.{s}.mergers.{i}' for s in (2, 3) for i in (0, 1)]),
    (lambda: LTMEfficientViT('b0', merger=dict(type='LTM', ratio=0.7, num_classes=3, mode='instance')),
     [f'stages.{s}.mergers.{i}' for s in (2, 3) for i in (0, 1)]),
    (lambda: EfficientViT('b0'), [f'stages.{s}.blocks.{i}.context' for s in (2, 3) for i in (0, 1)]),
    (lambda: LTMMobileViT('xx_small', ratio=0.7), 9),
    (lambda: LTMMobileViT('xx_small'), 9),
    (lambda: MobileViT('xx_small'), 9),
    (vit, ['layers.0.ffn', 'layers.1.ffn']),
    (swin, [f'stages.{s}.blocks.0.ffn' for s in range(4)]),
])
def test_every_layer_of_any_backbone_is_measured(backbone, layers):
    torch.manual_seed(0)
    model = Classifier(backbone()).eval()
    metrics = measure(model, Loader())
    names = [key[len('ib/'):-len('/c0')] for key in metrics if key.endswith('/c0')]
    if isinstance(layers, int):
        assert len(names) == layers
    else:
        assert names == [f'backbone.{name}' for name in layers]
    assert set(metrics) == {f'ib/{name}/{key}' for name in names for key in KEYS}
    for name in names:
        values = {key: metrics[f'ib/{name}/{key}'] for key in KEYS}
        assert all(abs(value) < 100 for value in values.values())
        assert values['ib_loss'] <= values['ib_bound'] - values['c0'] + 1e-6
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_samples_that_fill_up_the_last_batch_are_left_out(monkeypatch):
    """The second of two ranks: of seven images it has the odd ones, and one of the others over again."""
    torch.manual_seed(0)
    model, loader = Classifier(EfficientViT('b0')).eval(), Loader(7, batch=1)
    expected = measure(model, _subset(loader, [1, 3, 5]))
    loader[:] = [loader[index] for index in (1, 3, 5, 0)]
    monkeypatch.setattr(ib_metric, 'get_world_size', lambda: 2)
    monkeypatch.setattr(ib_metric, 'get_rank', lambda: 1)
    assert measure(model, loader) == pytest.approx(expected, abs=1e-6)


def _subset(loader, indices):
    subset = Loader(7, batch=1)
    subset[:] = [loader[index] for index in indices]
    return subset


def test_a_run_tests_a_model(tmp_path):
    """In a config: the metric beside another one, and its hook."""
    loader = dict(batch_size=5, num_workers=0, collate_fn=dict(type='default_collate'),
                  sampler=dict(type='DefaultSampler', shuffle=False), dataset=Images(12, augment=False))
    kwargs = dict(test_dataloader=loader, test_cfg=dict(),
                  test_evaluator=[dict(type='Accuracy'), dict(type='mmltm.IBMetric', prefix='bottleneck')])
    run = runner(tmp_path / 'with', hooks=[HOOK], **kwargs)
    metrics = run.test()
    assert 'accuracy/top1' in metrics and 'bottleneck/backbone.stages.2.mergers.0/ib_bound' in metrics
    assert len(metrics) == 1 + 4 * len(KEYS)
    assert run.test() == metrics
    with pytest.raises(UserError, match='IBMetricHook'):
        runner(tmp_path / 'without', **kwargs).test()


def test_layers_by_name():
    model, pattern = Classifier(EfficientViT('b0')), r'backbone\.stages\.\d\.blocks\.\d'
    found = list(find_layers(model, pattern))
    assert found[-1] == 'backbone.stages.3.blocks.1' and len(found) == 6
    assert f'ib/{found[0]}/ib_loss' in measure(model, Loader(), layers=pattern)


@pytest.mark.parametrize('change, message', [
    (dict(layers='x'), "no module has a name like 'x'"),
    (dict(backbone=torch.nn.Conv2d(3, 3, 1)), 'option `layers`'),
    (dict(sample=DataSample()), 'no gt_score, gt_label'), (dict(num_classes=None), 'set num_classes'),
    (dict(num_classes=2), 'class index 2 is outside the 2 classes')])
def test_mistakes_are_named(change, message):
    model, loader = Classifier(change.get('backbone', EfficientViT('b0'))).eval(), Loader(4)
    if 'sample' in change:
        loader[0]['data_samples'][0] = change['sample']
    options = {key: value for key, value in change.items() if key in ('layers', 'num_classes')}
    metric = IBMetric(**{'num_classes': 3, **options})
    with pytest.raises(UserError, match=message):
        metric.first_pass(model, loader)


def test_features_that_are_not_finite_name_their_layer():
    model, loader = Classifier(EfficientViT('b0')).eval(), Loader(4)
    loader[0]['inputs'][1][0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match=r'layer backbone.stages.2.blocks.0.context: .*NaN .*\(4, 49, 16\)'):
        measure(model, loader)
