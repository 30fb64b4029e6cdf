"""The information bottleneck of all mergers in one space, the full grid of each stage."""

import pytest
import torch

from harness.ib_curves import position
from harness.measures import bottleneck, measure_together
from mmltm.errors import UserError
from mmltm.evaluation import IBMetric
from mmltm.evaluation.layers import window_tokens
from mmltm.models import LTMEfficientViT, LTMMobileViT, LTMSwin, LTMVisionTransformer
from tests.engine.small_runs import CLASSES
from tests.evaluation.measuring import Classifier, Loader, measure

VIT = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)
BACKBONES = dict(
    mobilevit=(LTMMobileViT, dict(arch='xx_small')),
    efficientvit=(LTMEfficientViT, dict(arch='b0')),
    # Gives out its class token alone, so it asks for no way back.
    vit=(LTMVisionTransformer, dict(arch=VIT, img_size=64, patch_size=8)),
    swin=(LTMSwin, dict(arch=dict(embed_dims=8, depths=[2] + [1] * 3, num_heads=[1] * 4), window_size=4)))
LTMP = dict(type='LTMP', ratio=0.5, merge_threshold=0.5, prune_threshold=0.9)
MERGERS = [dict(type='ToMe', ratio=0.6), dict(type='ToFu', ratio=0.6), LTMP, dict(type='LTM', ratio=0.6),
           dict(type='SoftMerging', p=4), dict(type='CubistMerge', ratio=0.6)]
GRID = MERGERS[3:]
PAIRS = [(backbone, merger) for backbone in ('mobilevit', 'vit') for merger in MERGERS]
PAIRS += [('efficientvit', merger) for merger in GRID] + [('swin', MERGERS[0]), ('swin', GRID[0])]
PAIRS.append(('vit', dict(type='EViT', ratio=0.6)))


def build(backbone, merger=None):
    """With the weights of the vanilla one."""
    torch.manual_seed(0)
    type_, arguments = BACKBONES[backbone]
    vanilla, model = type_(**arguments), type_(**arguments, merger=merger)
    model.load_state_dict(vanilla.state_dict(), strict=False)
    return Classifier(model).eval()


def layer_name(key):
    return key[len('ib/backbone.'):].rpartition('/')[0]


@pytest.fixture
def tokens_of(monkeypatch):
    """X and X~ of every layer of a model, as the metric measures them, on the first four images."""

    def run(model, **kwargs):
        seen, original = {}, IBMetric._take

        def spy(metric, name, tokens_of):
            seen.setdefault(name.removeprefix('backbone.'), tokens_of(len(metric._targets)))
            original(metric, name, tokens_of)

        with monkeypatch.context() as patch:
            patch.setattr(IBMetric, '_take', spy)
            measure(model, Loader(4), **kwargs)
        return seen

    return run


@pytest.mark.parametrize('backbone, merger', PAIRS)
def test_the_theorem_holds_at_the_places_of_vanilla_layers(backbone, merger):
    values = measure(build(backbone, merger), Loader(), restored=True)
    vanilla = measure(build(backbone), Loader())
    places, merged = ({position(layer_name(key)) for key in found} for found in (vanilla, values))
    assert merged and merged <= places
    for name in {layer_name(key) for key in values}:
        loss, bound, c0 = (values[f'ib/backbone.{name}/{key}'] for key in ('ib_loss', 'ib_bound', 'c0'))
        assert loss <= bound - c0 + 1e-6 and abs(bound) < 100


@pytest.mark.parametrize('backbone', ['mobilevit', 'vit'])
def test_what_merges_nothing_measures_as_vanilla(backbone, tokens_of):
    """LTMP begins with thresholds that no token passes."""
    model = build(backbone, dict(type='LTMP', ratio=0.5))
    for tokens, merged in tokens_of(model).values():
        assert torch.equal(tokens, merged)
    vanilla = {(position(layer_name(key)), key.rpartition('/')[2]): value
               for key, value in measure(build(backbone), Loader()).items()}
    for key, value in measure(model, Loader()).items():
        assert value == pytest.approx(vanilla[position(layer_name(key)), key.rpartition('/')[2]], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize('backbone, merger', PAIRS)
def test_the_first_layer_sees_what_that_of_vanilla_sees(backbone, merger, tokens_of):
    (vanilla, _), (tokens, merged) = (
        next(iter(tokens_of(build(backbone, config), restored=True).values())) for config in (None, merger))
    torch.testing.assert_close(tokens, vanilla)
    assert tokens.shape == merged.shape and (tokens - merged).abs().mean() > 1e-3 * tokens.abs().mean()


@pytest.mark.parametrize('backbone, side, left', [('mobilevit', 4, 9), ('vit', 8, 49)])
def test_copies_of_averages(backbone, side, left, tokens_of):
    """ToMe's tokens, copied to all places that they stand for, keep the mean of the map."""
    model = build(backbone, dict(type='ToMe', ratio=0.6))
    for tokens, merged in tokens_of(model, window=1).values():
        torch.testing.assert_close(tokens, merged)
    first = next(iter(tokens_of(model, window=side).values()))
    channels = first[0].shape[2] // (4 if backbone == 'mobilevit' else 1)  # of four sequences an image
    assert [len(x[0, :, :channels].unique(dim=0)) for x in first] == [side**2, left]


@pytest.mark.parametrize('backbone, list_name, side', [
    ('mobilevit', 'layers.2.1', 4), ('vit', '', 8), ('efficientvit', 'stages.2', 4)])
def test_operators_of_a_stage_lead_back_one_after_the_other(backbone, list_name, side, tokens_of):
    model = build(backbone, dict(type='LTM', ratio=0.5, window=4))
    calls, mergers = [], model.backbone.get_submodule(list_name).mergers
    handles = [merger.register_forward_hook(lambda module, args, output: calls.append((args[0], output[0])))
               for merger in mergers if not isinstance(merger, torch.nn.Identity)]
    seen = tokens_of(model, window=side, restored=True)
    for handle in handles:
        handle.remove()
    (_, outer), (full, inner) = calls[:2]
    name = f'{list_name}.mergers.1'.lstrip('.')
    before, after = (window_tokens(outer.unmerge(x), (side, side)) for x in (full, inner.unmerge(inner.merge(full))))
    torch.testing.assert_close(seen[name], (before, after))
    assert full.shape[-2:] < outer.grid == (side, side)


def test_a_pattern_that_leaves_out_mergers_changes_no_value():
    for merger in MERGERS[0], MERGERS[3]:
        model = build('vit', merger)
        everything = measure(model, Loader(), restored=True)
        last = measure(model, Loader(), restored=True, layers=r'backbone\.mergers\.1')
        assert len(last) == 5 and last == {key: everything[key] for key in last}


def test_mergers_that_keep_the_grid_are_measured_as_they_merge_by_default(tokens_of):
    seen = tokens_of(build('vit', dict(type='LTM', ratio=0.6)))
    sizes = [(tokens.shape[1], merged.shape[1]) for tokens, merged in seen.values()]
    assert sizes[0][0] == 49 and all(after < before for before, after in sizes)


def test_measuring_changes_nothing_about_the_model():
    model, loader = build('vit', dict(type='ToMe', ratio=0.6)), Loader(4)
    outputs = []
    handle = model.register_forward_hook(lambda module, args, output: outputs.append(output[-1]))
    measure(model, loader)
    handle.remove()
    with torch.no_grad():
        expected = model.val_step(loader[0])[-1]
    assert torch.equal(outputs[0], expected) and torch.equal(outputs[1], expected)
    hooked = [module for module in model.modules() if module._forward_hooks or module._forward_pre_hooks]
    assert not hooked


def test_what_is_stored_of_a_model():
    """Both spaces in the passes of one, each as if it had been alone."""
    loader, ticks = Loader(), []
    grid = build('mobilevit', dict(type='LTM', ratio=0.6))
    result = bottleneck(grid, loader, lambda: ticks.append(1))
    assert len(ticks) == 2 * len(loader)
    metrics = dict(layers=IBMetric(len(CLASSES)), restored=IBMetric(len(CLASSES), restored=True))
    assert result == {key: measure_together([metric], grid, loader)[0] for key, metric in metrics.items()}
    assert list(result['layers']) == list(result['restored']) and result['layers'] != result['restored']
    assert list(bottleneck(build('mobilevit', MERGERS[0]), loader)) == ['restored']
    vanilla = bottleneck(build('mobilevit'), loader)
    assert vanilla['layers'] == vanilla['restored']


def test_hooks_are_gone_after_an_error():
    model, loader = build('vit', MERGERS[0]), Loader(4)
    metrics = [IBMetric(2), IBMetric(2, restored=True)]
    with pytest.raises(UserError, match='outside the 2 classes'):
        measure_together(metrics, model, loader)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
