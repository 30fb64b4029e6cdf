"""The information-bottleneck step of the mask module, in training and evaluation."""

import pytest
import torch

from mmltm.evaluation.layers import window_tokens
from mmltm.ib import mask_gradient
from mmltm.merging import LTM
from mmltm.merging.base import Host
from mmltm.merging.ltm import Carry
from mmltm.models.mergers import build_mergers

CLASSES = 3


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def images(count=24, channels=6, size=4, noise=3.0):
    """Maps in which each class is bright at places of its own."""
    targets = torch.arange(count) % CLASSES
    patterns = torch.randn(CLASSES, channels, size, size)
    return patterns[targets] + noise * torch.randn(count, channels, size, size), targets


def merger(source=(4, 4), target=(3, 3), channels=6, **kwargs):
    ltm = LTM(source, target, channels, **{'num_classes': CLASSES, 'mode': 'static', **kwargs})
    if ltm.stats is not None:
        ltm.stats.name = 'stage.merger'
    return ltm


def learn(ltm, x, targets, epochs=2, carry=None):
    """Epochs of one batch."""
    for _ in range(epochs):
        ltm.targets = targets
        ltm(x, carry)
        ltm.stats.finish_epoch()
        ltm.report.inputs.finish_epoch()
    return ltm


def mask_of(ltm, x, carry=None):
    return ltm.eval()(x, carry)[0].regions[0].merge


@pytest.mark.parametrize('normalize, center', [(True, True), (True, False), (False, False)])
def test_step_is_the_gradient_of_the_paper(normalize, center):
    """Eqs. 2 and 3 for the batch, its gradient at the mask before the step."""
    x, targets = images()
    space = dict(stat_dim=None, normalize=normalize, center=center, beta=0.5)
    ltm = merger(step_norm='none', momentum=1.0, eta=0.3, **space)
    before = mask_of(ltm, x)
    tokens = window_tokens(x, (4, 4))
    learn(ltm.train(), x, targets)
    assert ltm.step.eq(0).all()
    ltm.targets = targets
    ltm(x)
    merged, stats = before.mT @ tokens, ltm.stats
    origin = stats.centroids.mean(0) if center else 0  # of equal classes
    gradient = mask_gradient(
        tokens, merged - origin, stats.centroids - origin, stats.q, targets, beta=0.5, normalize=normalize)
    torch.testing.assert_close(ltm.step, -0.3 * gradient, rtol=1e-4, atol=1e-6)
    assert ltm.step.abs().max() > 1e-3


@pytest.mark.parametrize('eta, sign', [(0.2, -1), (-0.2, 1)])
def test_step_moves_the_bound_where_eta_says(eta, sign):
    x, targets = images()
    ltm = learn(merger(eta=eta, momentum=1.0), x, targets, epochs=3)
    tokens = ltm.stats.project(window_tokens(x, (4, 4)))

    def bound(mask):
        return ltm.stats.label_term(mask.mT @ tokens, targets)

    with torch.no_grad():
        after = bound(mask_of(ltm, x))
        ltm.step.zero_()
        assert (after - bound(mask_of(ltm, x))) * sign > 1e-4


def test_rms_step_has_its_size_where_the_softmax_sees_it():
    x, targets = images()
    ltm = learn(merger(momentum=1.0, eta=0.7), x + 50, targets, epochs=3)
    torch.testing.assert_close(ltm.step.square().mean().sqrt(), torch.tensor(0.7))
    torch.testing.assert_close(ltm.step.mean(0), torch.zeros(9), atol=1e-5, rtol=0)


def test_static_mode_learns_a_running_mean_and_evaluates_with_it():
    x, targets = images()
    ltm = learn(merger(momentum=0.25), x, targets)
    steps = []
    for part in (slice(0, 12), slice(12, 24)):
        ltm.targets = targets[part]
        steps.append(ltm(x[part])[1].steps)
    expected = 0.25 * (0.75 * steps[0] + steps[1])
    torch.testing.assert_close(ltm.step, expected)
    carry = ltm.eval()(x)[1]
    assert carry.steps.equal(ltm.step)


@pytest.mark.parametrize('active', [True, False])
def test_static_evaluation_knows_no_label_no_chance_and_no_batch(active):
    x, targets = images()
    ltm = learn(merger(), x, targets, epochs=4).eval()
    ltm.active = active
    state = {key: value.clone() for key, value in ltm.state_dict().items()}
    other, results = torch.randn(5, 6, 4, 4), []
    rng = torch.get_rng_state()
    for batch, labels in ((x, None), (x[:1], None), (other, None), (x, targets), (x, targets.flip(0))):
        ltm.targets = labels
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                operator, carry = ltm(batch)
            results.append(carry.steps if operator is None else operator.regions[0].merge)
    assert all(result.equal(results[0]) for result in results)
    assert torch.get_rng_state().equal(rng)
    assert all(value.equal(state[key]) for key, value in ltm.state_dict().items())


def test_instance_mode_has_a_mask_for_each_image_and_needs_no_label():
    x, targets = images()
    ltm = learn(merger(mode='instance'), x, targets).eval()
    masks = mask_of(ltm, x)
    assert masks.shape == (24, 1, 16, 9)
    torch.testing.assert_close(masks.sum(2), torch.ones(24, 1, 9))
    assert not torch.allclose(masks[0], masks[1])
    torch.testing.assert_close(mask_of(ltm, x[5:6])[0], masks[5], rtol=1e-4, atol=1e-6)
    ltm.targets = targets.flip(0)
    assert mask_of(ltm, x).equal(masks)
    merged = ltm(x)[0].merge(x)
    assert merged.shape == (24, 6, 3, 3) and merged.isfinite().all()


def test_instance_mode_needs_no_sum_over_ranks_in_a_forward_pass(monkeypatch):
    x, targets = images()
    ltm = learn(merger(mode='instance'), x, targets)
    monkeypatch.setattr('mmltm.ib.statistics.sum_over_ranks', None)
    ltm.targets = targets
    ltm(x)
    assert ltm.stats.epoch_counts.sum() == len(x)


def test_instance_step_follows_the_likelier_class():
    """Where the posterior is certain, the step of an image is that of its label."""
    x, targets = images(count=12, noise=0.7)
    labelled = learn(merger(stat_dim=None), x, targets)
    instance = learn(merger(stat_dim=None, mode='instance'), x, targets)
    for index in range(4):
        labelled.targets = targets[index:index + 1]
        expected = labelled(x[index:index + 1])[1].steps
        actual = instance.eval()(x[index:index + 1])[1].steps.tiles[0][0, 0].mT
        assert torch.cosine_similarity(actual.flatten(), expected.flatten(), 0) > 0.9


def test_steps_of_blocks_add_up():
    """Eq. 3: the carried mask, on the grids of this block, plus this block's step."""
    x, targets = images()
    ltm = merger((3, 3), (2, 2))
    carried = Carry((4, 4), (3, 3), torch.randn(16, 9))
    with torch.no_grad():
        merged = torch.nn.functional.adaptive_avg_pool2d(x, 3)
        learn(ltm, merged, targets, epochs=4, carry=carried)
        alone, both = ltm.eval()(merged)[1].steps, ltm(merged, carried)[1].steps
    assert alone.equal(ltm.step) and both.shape == (9, 4)
    constant = Carry((4, 4), (3, 3), torch.full((16, 9), 1.5))
    torch.testing.assert_close(ltm(merged, constant)[1].steps, alone + 1.5)
    assert not torch.allclose(both, alone)


@pytest.mark.parametrize('mode', ['static', 'instance'])
@pytest.mark.parametrize('size', [(3, 3), (9, 6), (5, 13)])
def test_edges_and_small_maps_take_the_step_too(size, mode):
    x, targets = images()
    ltm = learn(merger(mode=mode, momentum=1.0), x, targets, epochs=4)
    maps = torch.randn(2, 6, *size)
    regions = ltm.eval()(maps)[0].regions
    ltm.step.zero_()
    if mode == 'instance':
        ltm.step_gain.data.zero_()
    unmoved = ltm(maps)[0].regions
    for region, other in zip(regions, unmoved):
        torch.testing.assert_close(region.merge.sum(-2), torch.ones_like(region.merge.sum(-2)))
        shrinks = region.merge.shape[-1] < region.merge.shape[-2]
        assert not (shrinks and torch.allclose(region.merge, other.merge))
    ltm.train().targets = targets[:2]
    assert ltm(maps)[0].merge(maps).isfinite().all()


def test_eta_zero_keeps_statistics_and_takes_no_step():
    x, targets = images()
    ltm, other = (learn(merger(eta=eta), x, targets, epochs=4) for eta in (0.0, 1.0))
    assert ltm.step.eq(0).all() and other.step.any()
    assert ltm.stats.centroids.equal(other.stats.centroids)


def test_warm_up_gathers_the_statistics_of_tokens_that_would_have_been_merged():
    x, targets = images(size=8)
    blocks = [merger(first=True), merger((3, 3), (2, 2)), merger((4, 4), (3, 3))]
    warm_up, merging = blocks, [merger(first=True), merger((3, 3), (2, 2)), merger((4, 4), (3, 3))]
    for block in warm_up:
        block.active = False
    carry = None
    for block, maps in zip(warm_up, (x, x, x[..., :4, :4])):
        block.targets = targets
        operator, carry = block(maps, carry)
        assert operator is None
    maps, carry = x, None
    for block in merging[:2]:
        block.eval()(maps, carry)
        block.train().targets = targets
        if block.stats is not None:
            block(maps, carry)
        operator, carry = block.eval()(maps, carry)
        maps = operator.merge(maps)
    assert maps.shape[-2:] == (4, 4)
    torch.testing.assert_close(warm_up[1].stats.epoch_features, merging[1].stats.epoch_features)
    # The third block begins a new stage, with a map of its own.
    merging[2].targets = targets
    merging[2](x[..., :4, :4])
    torch.testing.assert_close(warm_up[2].stats.epoch_features, merging[2].stats.epoch_features)


def test_warm_up_merges_nothing_ahead_of_a_block_that_gets_all_tokens():
    """As in Swin, where each block brings its tokens back: the window does not start where the last one ended."""
    x, targets = images(size=8)
    first, second, alone = merger(first=True), merger(), merger()
    for block in (first, second):
        block.active = False
    for block in (first, second, alone):
        block.targets = targets
    second(x, first(x)[1])
    alone(x)
    assert second.stats.epoch_features.equal(alone.stats.epoch_features)


def test_warm_up_is_in_the_state_dict():
    ltm, other = merger(), merger()
    ltm.active = False
    other.load_state_dict(ltm.state_dict())
    assert not other.active and other.eval()(images()[0])[0] is None


def test_bfloat16_autocast_keeps_statistics_in_float32():
    x, targets = images()
    exact = learn(merger(), x.bfloat16().float(), targets, epochs=3)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        low = learn(merger(), x.bfloat16(), targets, epochs=3)
    for key, value in low.state_dict().items():
        assert value.dtype in (torch.float32, torch.bool)
        torch.testing.assert_close(value, exact.state_dict()[key])
    operator, _ = low(x.bfloat16())
    assert operator.merge(x.bfloat16()).dtype == torch.bfloat16


def test_grouped_maps_share_a_mask_and_are_one_token():
    x, targets = images(channels=6)
    grouped = x.unflatten(1, (2, 3))
    ltm, other = learn(merger(), x, targets, epochs=3), learn(merger(), grouped, targets, epochs=3)
    for key, value in ltm.state_dict().items():
        assert value.equal(other.state_dict()[key]), key
    merged, expected = other.eval()(grouped)[0].merge(grouped), ltm.eval()(x)[0].merge(x)
    torch.testing.assert_close(merged.flatten(1, 2), expected)


def test_report_means_over_the_batches_asked_for():
    x, targets = images()
    ltm = merger()
    for epoch in range(3):
        for part in (slice(0, 12), slice(12, 24)):
            ltm.targets, ltm.reporting = targets[part], True
            ltm(x[part])
        ltm.targets, ltm.reporting = targets, False
        ltm(x)
        ltm.stats.finish_epoch()
        ltm.report.inputs.finish_epoch()
        count = ltm.report.sums[-1].item()
        summary = ltm.report.summary()
        assert bool(summary) == (epoch == 2) and count == (2 if epoch == 2 else 0)
    assert summary['ib_loss'] == pytest.approx(summary['mi_input'] - summary['mi_label'], abs=1e-5)
    assert 0 < summary['mi_label'] <= 1.1 and summary['mi_input'] > 0 and 0 < summary['mask_step'] < 2
    assert ltm.report.summary() == {}


def test_report_leaves_out_a_batch_without_targets():
    x, targets = images()
    ltm = learn(merger(), x, targets, epochs=2)
    ltm.targets, ltm.reporting = torch.zeros(24, CLASSES), True
    ltm(x)
    assert ltm.report.summary() == {} and ltm.step.eq(0).all()


def test_bad_input_names_layer_and_shape():
    x, targets = images()
    ltm = learn(merger(), x, targets, epochs=2)
    ltm.targets = targets[:5]
    with pytest.raises(ValueError, match='layer stage.merger: 24 images but 5 targets'):
        ltm(x)
    ltm.targets = targets + 1
    with pytest.raises(ValueError, match='layer stage.merger: .*class index 3 is outside the 3 classes'):
        ltm(x)
    ltm.check_tokens()
    x[3, 2, 1, 1] = torch.nan
    ltm.targets = targets
    ltm(x)
    with pytest.raises(ValueError, match=r'layer stage.merger: NaN or infinite .* shape \(B, 16, 6\)'):
        ltm.check_tokens()


def test_statistics_of_1000_classes_fit_in_memory():
    """MobileViT-S at 224 pixels, patches of 4 pixels; ViT-B, where one side of the grid shrinks in every
    block."""
    kwargs = dict(num_classes=1000)
    with torch.device('meta'):
        stages = build_mergers(dict(type='LTM', ratio=0.7, **kwargs), Host((2, 4, 3), (576, 768, 960)))
        mobilevit = [block for stage in stages for block in stage]
        sides = [(side, side - step) for side in range(14, 8, -1) for step in (0, 1)]
        vit = [LTM(source, target, 768, **kwargs) for source, target in zip(sides, sides[1:])]
    for blocks, limit in ((mobilevit, 100e6), (vit, 300e6)):
        assert len([block for block in blocks if getattr(block, 'stats', None)]) in (8, 11)
        assert limit / 2 < sum(buffer.nbytes for block in blocks for buffer in block.buffers()) < limit
