"""Streaming statistics against the pure functions on the whole epoch, and what can go wrong with them."""

import copy

import pytest
import torch

from mmltm.ib import (
    BatchTargets,
    ClassStatistics,
    class_centroids,
    conditional_assignment,
    mask_gradient,
    soft_assignment,
    target_distribution,
)

STATE = ('centroids', 'counts', 'q', 'assigned')


def build(case, **kwargs):
    """Exact statistics for a problem, in its number of classes unless told otherwise."""
    kwargs = {'num_classes': case.classes, 'stat_dim': None, 'name': 'stage2.block1', **kwargs}
    return ClassStatistics(num_tokens=case.merged.shape[1], embed_dims=case.merged.shape[2], **kwargs)


def feed(statistics, case, epochs=1, batch=12):
    for _ in range(epochs):
        for merged, targets in zip(case.merged.split(batch), case.targets.split(batch)):
            statistics.update(merged, targets)
        statistics.finish_epoch()
    return statistics


def step(statistics, tokens, merged, targets):
    """The gradient of a batch, which goes into the statistics."""
    return statistics.observe(tokens, merged, BatchTargets.of(targets, statistics.num_classes))[1]


@pytest.fixture
def case(problem):
    return problem(0, samples=48, channels=4, scale=0.4, dtype=torch.float32)


@pytest.mark.parametrize('normalize, beta', [(False, 1.0), (True, 10.0)])
@pytest.mark.parametrize('soft', [False, True])
def test_two_epochs_give_what_the_pure_functions_give(problem, soft, normalize, beta):
    first, second = (problem(seed, samples=48, channels=4, scale=0.4, soft=soft, dtype=torch.float32)
                     for seed in (0, 1))
    statistics = build(first, beta=beta, normalize=normalize)
    feed(statistics, first, batch=7)
    centroids = class_centroids(first.merged, first.targets)
    torch.testing.assert_close(statistics.centroids, centroids)
    torch.testing.assert_close(statistics.counts, target_distribution(first.targets).sum(0))
    feed(statistics, second, batch=11)
    phi = soft_assignment(second.merged, centroids, beta, normalize)
    torch.testing.assert_close(statistics.q, conditional_assignment(phi, second.targets))
    torch.testing.assert_close(statistics.assigned, phi.sum(0))
    torch.testing.assert_close(statistics.centroids, class_centroids(second.merged, second.targets))

    gradient = step(statistics, first.tokens, first.merged, first.targets)
    torch.testing.assert_close(gradient, mask_gradient(
        first.tokens, first.merged, statistics.centroids, statistics.q, first.targets, beta, normalize))


def test_batches_of_any_size_give_the_same(case):
    whole, streamed = feed(build(case), case, 2, batch=48), feed(build(case), case, 2, batch=1)
    for key in STATE:
        torch.testing.assert_close(getattr(streamed, key), getattr(whole, key), rtol=1e-6, atol=1e-6)


def test_step_accumulates_what_update_does(case):
    one, other = feed(build(case), case), feed(build(case), case)
    step(one, case.tokens, case.merged, case.targets)
    other.update(case.merged, case.targets)
    for key, value in one.state_dict().items():
        assert value.equal(other.state_dict()[key]), key


def test_no_gradient_before_there_is_a_q(case):
    statistics = build(case)
    for epoch in range(3):
        gradient = step(statistics, case.tokens, case.merged, case.targets)
        assert gradient.shape == case.mask.shape
        assert gradient.any() == statistics.ready == (epoch == 2)
        statistics.finish_epoch()


def test_soft_one_hot_targets_equal_indices(case):
    hard = feed(build(case), case, 2)
    case.targets = torch.nn.functional.one_hot(case.targets).float()
    soft = feed(build(case), case, 2)
    for key in STATE:
        assert getattr(soft, key).equal(getattr(hard, key)), key


def test_images_without_an_object_are_left_out(case):
    targets = target_distribution(case.targets)
    targets[::3] = 0
    kept = targets.sum(1) > 0
    one, other = build(case), build(case)
    for _ in range(2):
        one.update(case.merged, targets)
        other.update(case.merged[kept], targets[kept])
        one.finish_epoch()
        other.finish_epoch()
    for key in STATE:
        torch.testing.assert_close(getattr(one, key), getattr(other, key))
    torch.testing.assert_close(step(one, case.tokens, case.merged, targets),
                               step(other, case.tokens[kept], case.merged[kept], targets[kept]))
    assert step(one, case.tokens, case.merged, torch.zeros_like(targets)).eq(0).all()


def test_classes_never_seen_take_no_part(case):
    few, many = feed(build(case), case, 2), feed(build(case, num_classes=9), case, 2)
    assert many.counts[4:].eq(0).all() and many.centroids[4:].eq(0).all()
    torch.testing.assert_close(many.q[:4, :4], few.q)
    assert many.assign(case.merged)[:, 4:].eq(0).all()
    torch.testing.assert_close(step(many, case.tokens, case.merged, case.targets),
                               step(few, case.tokens, case.merged, case.targets))
    unseen = torch.full_like(case.targets, 8)
    gradient = step(many, case.tokens, case.merged, unseen)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-5)


def test_classes_absent_from_an_epoch_keep_what_they_had(case):
    statistics = feed(build(case), case, 2)
    before = copy.deepcopy(statistics)
    present = case.targets > 0
    statistics.update(case.merged[present] + 1, case.targets[present])
    statistics.finish_epoch()
    assert statistics.centroids[0].equal(before.centroids[0])
    assert statistics.counts[0] == before.counts[0]
    assert statistics.q[:, 0].equal(before.q[:, 0])
    assert not statistics.centroids[1].equal(before.centroids[1])
    assert not statistics.q[:, 1].equal(before.q[:, 1])
    # An epoch without any data changes nothing at all.
    before = copy.deepcopy(statistics)
    statistics.finish_epoch()
    for key in STATE:
        assert getattr(statistics, key).equal(getattr(before, key)), key


def test_a_class_met_later_takes_part_once_it_has_a_q(case):
    """Until then the gradient is that of the other classes; its zeros in Q must not push anything away."""
    late = case.targets == 3
    statistics = build(case)
    for _ in range(2):
        statistics.update(case.merged[~late], case.targets[~late])
        statistics.finish_epoch()
    feed(statistics, case)
    assert statistics.counts[3] == late.sum() and statistics.assigned[3] == 0
    gradient = step(copy.deepcopy(statistics), case.tokens, case.merged, case.targets)
    torch.testing.assert_close(gradient, mask_gradient(
        case.tokens, case.merged, statistics.centroids, statistics.q, case.targets,
        present=torch.arange(4) < 3))
    feed(statistics, case)
    assert statistics.assigned[3] > 0
    torch.testing.assert_close(
        step(statistics, case.tokens, case.merged, case.targets),
        mask_gradient(case.tokens, case.merged, statistics.centroids, statistics.q, case.targets))


def test_low_precision_and_autocast_give_float32(case):
    exact, low = feed(build(case), case, 2), build(case)
    case.tokens, case.merged = case.tokens.bfloat16(), case.merged.bfloat16()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        feed(low, case, 2)
        gradient = step(low, low.project(case.tokens), low.project(case.merged), case.targets)
    assert gradient.dtype == torch.float32
    assert all(buffer.dtype == torch.float32 for buffer in low.buffers())
    torch.testing.assert_close(low.centroids, class_centroids(case.merged, case.targets))
    torch.testing.assert_close(low.q, exact.q, rtol=0.05, atol=0.01)


def test_projection_commutes_with_merging_and_is_left_out_when_exact(problem):
    case = problem(1, channels=12, dtype=torch.float32)
    statistics = build(case, stat_dim=5)
    projected = torch.einsum('np,ind->ipd', case.mask, statistics.project(case.tokens))
    torch.testing.assert_close(statistics.project(case.merged), projected)
    assert projected.shape == (12, 3, 5) and statistics.centroids.shape == (4, 3, 5)
    for stat_dim in (None, 12, 16):
        exact = build(case, stat_dim=stat_dim)
        assert exact.projection is None and exact.project(case.tokens).equal(case.tokens)


def test_fitted_projection_keeps_the_space_in_which_tokens_vary(problem):
    case = problem(2, channels=12, dtype=torch.float32)
    plane = torch.linalg.qr(case.randn(12, 3)).Q
    case.tokens = case.tokens @ plane @ plane.T + 1e3 * case.randn(12)
    statistics = build(case, stat_dim=3)
    statistics.update(statistics.project(case.merged), case.targets)
    statistics.fit_projection(case.tokens)
    torch.testing.assert_close(statistics.projection.T @ statistics.projection, torch.eye(3))
    torch.testing.assert_close(torch.pdist(statistics.project(case.tokens).flatten(1)),
                               torch.pdist(case.tokens.flatten(1)), rtol=1e-3, atol=1e-3)
    statistics.finish_epoch()
    assert statistics.counts.eq(0).all(), 'sums of the old space must be gone'
    exact = build(case)
    exact.fit_projection(case.tokens)
    assert exact.projection is None


def test_resuming_in_mid_epoch_continues_bit_for_bit(case):
    def half(statistics, part):
        return step(statistics, case.tokens[part], case.merged[part], case.targets[part])

    statistics = feed(build(case, stat_dim=None), case, 2)
    half(statistics, slice(24))
    saved = copy.deepcopy(statistics.state_dict())
    assert all(isinstance(value, torch.Tensor) for value in saved.values())
    resumed = build(case)
    resumed.load_state_dict(saved)
    assert half(resumed, slice(24, 48)).equal(half(statistics, slice(24, 48)))
    statistics.finish_epoch()
    resumed.finish_epoch()
    for key, value in statistics.state_dict().items():
        assert value.equal(resumed.state_dict()[key]), key


@pytest.mark.parametrize('other, message', [
    (dict(num_classes=80), r'centroids .*\(1000, 9, 4\) in the checkpoint, \(80, 9, 4\) in the model'),
    (dict(num_tokens=16), r'centroids .*\(1000, 9, 4\) in the checkpoint, \(1000, 16, 4\) in the model'),
    (dict(stat_dim=5), r'centroids .*\(1000, 9, 4\) in the checkpoint, \(1000, 9, 5\) in the model'),
    (dict(embed_dims=32), r'projection .*\(24, 4\) in the checkpoint, \(32, 4\) in the model'),
    (dict(embed_dims=4), r'projection .*\(24, 4\) in the checkpoint, None in the model'),
])
def test_statistics_of_another_layer_are_refused(other, message):
    shape = dict(num_classes=1000, num_tokens=9, embed_dims=24, stat_dim=4)
    saved, model = (torch.nn.ModuleDict(dict(stage=ClassStatistics(**kwargs)))
                    for kwargs in (shape, {**shape, **other}))
    saved['stage'].counts += 1
    for strict in (True, False):
        with pytest.raises(RuntimeError, match='statistics of layer stage: ' + message):
            model.load_state_dict(saved.state_dict(), strict=strict)
    assert model['stage'].counts.eq(0).all(), 'nothing must have been loaded'
    assert model['stage'].mismatch(model.state_dict(), 'stage.') is None
    assert model['stage'].mismatch({}, 'stage.') is None


def test_memory(case):
    statistics = ClassStatistics(num_classes=1000, num_tokens=36, embed_dims=144)
    nbytes = sum(buffer.nbytes for buffer in statistics.buffers())
    assert nbytes == 4 * (2 * 1000 * 36 * 16 + 2 * 1000**2 + 3 * 1000 + 144 * 16)
    assert nbytes == sum(value.nbytes for value in statistics.state_dict().values())
    assert '12.6 MB' in repr(statistics)


def test_bad_input_names_the_layer_and_changes_nothing(case):
    statistics = feed(build(case), case, 2)
    before = copy.deepcopy(statistics.state_dict())
    broken = case.merged.clone()
    broken[5, 0, 0] = torch.nan
    layer = 'statistics of layer stage2.block1: '
    for merged, targets, message in (
            (case.merged, case.targets + 1, 'targets .* class index 4 is outside the 4 classes'),
            (case.merged, torch.rand(48, 5), 'distributions over 5 classes, but there are 4'),
            (case.merged[:0], case.targets[:0], r'targets: empty batch, shape \(0,\)'),
            (case.merged, case.targets[:-1], r'features \(48, 3, 4\), targets \(47, 4\)'),
            (case.merged[:, :2], case.targets, r'\(48, 2, 4\) do not match centroids of shape \(4, 3, 4\)'),
            (broken, case.targets, r'NaN or infinite values in a tensor of shape \(48, 3, 4\)')):
        with pytest.raises(ValueError, match=layer + '.*' + message):
            statistics.update(merged, targets)
    for key, value in statistics.state_dict().items():
        assert value.equal(before[key]), key
