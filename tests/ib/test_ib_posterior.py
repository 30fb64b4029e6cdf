"""V of samples by themselves: folded and reduced, against the formulas word for word."""

import copy

import pytest
import torch
import torch.nn.functional as F

from mmltm.ib import ClassStatistics
from tests.ib.reference import literal_direction, literal_step


def statistics(case, epochs=2, **kwargs):
    kwargs = dict(dict(num_classes=case.classes, stat_dim=None), **kwargs)
    made = ClassStatistics(num_tokens=case.merged.shape[1], embed_dims=case.merged.shape[2], **kwargs)
    made.to(case.merged.dtype)
    for _ in range(epochs):
        made.update(case.merged, case.targets)
        made.finish_epoch()
    return made


SPACES = [dict(normalize=True, center=True, beta=10.0), dict(normalize=True, center=False, beta=10.0),
          dict(normalize=True, center=True, beta=0.7), dict(beta=1.0), dict(beta=0.3, center=True)]


@pytest.mark.parametrize('space', SPACES)
@pytest.mark.parametrize('num_classes, soft', [(4, False), (4, True), (7, False)])
def test_equals_the_gradient_of_the_bound(problem, space, num_classes, soft):
    """Classes never seen included."""
    case = problem(0, samples=30, scale=0.5, soft=soft)
    made = statistics(case, num_classes=num_classes, **space)
    actual = made.posterior_direction(case.merged)
    expected = literal_direction(case.merged, made)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))


@pytest.mark.parametrize('space', SPACES)
def test_reduction_is_exact_where_the_rank_suffices(problem, space):
    case = problem(1, samples=40, classes=6, merged=4, channels=3, scale=0.5)
    exact, reduced = (statistics(case, class_limit=limit, rank_limit=12, **space) for limit in (None, 5))
    assert exact.frame().coordinates is None and reduced.frame().coordinates.shape == (6, 12)
    torch.testing.assert_close(reduced.posterior_direction(case.merged), exact.posterior_direction(case.merged),
                               rtol=1e-9, atol=1e-12)


def many_classes(classes=300, tokens=9, channels=8, per_class=10):
    """Clustered features: classes in groups, variances that fall as those of smooth maps do, much noise."""
    generator = torch.Generator().manual_seed(0)

    def randn(*shape):
        return torch.randn(*shape, generator=generator)

    size = tokens * channels
    scale = torch.arange(1, size + 1).pow(-1.2)
    groups, targets = randn(12, size), torch.arange(classes).repeat(per_class)
    means = groups[torch.arange(classes) % 12] + randn(classes, size)
    features = (0.3 * means[targets] + randn(len(targets), size)) * scale
    rotation = torch.linalg.qr(randn(size, size)).Q
    return (features @ rotation + 1).view(-1, tokens, channels), targets


def test_reduction_comes_near_with_many_classes():
    features, targets = many_classes()
    made = ClassStatistics(300, 9, 8, None, normalize=True, center=True, beta=10.0, class_limit=None)
    for _ in range(2):
        made.update(features, targets)
        made.finish_epoch()
    exact = made.posterior_direction(features[:200]).flatten(1)
    medians = []
    for made.rank_limit in (8, 16, 32):
        made.class_limit = 128
        made._forget()
        medians.append(F.cosine_similarity(made.posterior_direction(features[:200]).flatten(1), exact).median())
    assert medians == sorted(medians) and medians[0] < 0.98
    assert medians[-1] > 0.99


def test_no_q_no_direction(problem):
    case = problem(2)
    for epochs in (0, 1):
        for limit in (None, 2):
            made = statistics(case, epochs, normalize=True, class_limit=limit)
            assert made.posterior_direction(case.merged).eq(0).all()
    made = statistics(case, normalize=True)
    direction = made.posterior_direction(case.merged * torch.tensor([0, 1]).repeat(6)[:, None, None])
    assert direction[::2].eq(0).all() and direction[1::2].any(dim=(1, 2)).all()


@pytest.mark.parametrize('change', [
    lambda made, case: (made.update(case.merged.flip(0), case.targets), made.finish_epoch()),
    lambda made, case: made.label_q.mul_(0.5).add_(0.5 / case.classes),
    lambda made, case: made.reset(),
    lambda made, case: made.load_state_dict({key: 0.5 * x for key, x in made.state_dict().items()}),
    lambda made, case: made.float()])
@pytest.mark.parametrize('inference', [False, True])
def test_what_is_folded_follows_the_statistics(problem, change, inference):
    case = problem(3, scale=0.5)
    made = statistics(case)
    with torch.inference_mode(inference):
        before = made.posterior_direction(case.merged)
        assert made.frame() is made.frame()
        change(made, case)
        dtype = made.centroids.dtype
        after = made.posterior_direction(case.merged.to(dtype))
        fresh = ClassStatistics(case.classes, 3, 2, None).to(dtype)
        fresh.load_state_dict(made.state_dict())
        assert not after.equal(before)
        assert after.equal(fresh.posterior_direction(case.merged.to(dtype)))


def test_evaluation_in_inference_mode_leaves_training_as_it_was(problem):
    case = problem(4, dtype=torch.float32)
    made = statistics(case, normalize=True)
    with torch.inference_mode():
        made.posterior_direction(case.merged)
    features = case.merged.clone().requires_grad_()
    made.label_term(features, case.targets).backward()
    assert features.grad.isfinite().all()
    copied = copy.deepcopy(made)
    assert copied.posterior_direction(case.merged).equal(made.posterior_direction(case.merged))


def test_autocast_changes_nothing_and_no_gradient_flows(problem):
    case = problem(5, dtype=torch.float32)
    made = statistics(case)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        merged = case.merged.clone().requires_grad_()
        low = made.posterior_direction(merged)
    assert not low.requires_grad and low.dtype == torch.float32
    assert low.equal(made.posterior_direction(case.merged))


def test_few_operations(problem):
    """A mask that follows each image is made of them in every block."""
    case = problem(6, classes=6, merged=4, dtype=torch.float32)
    for limit, most in ((None, 21), (5, 22)):
        made = statistics(case, normalize=True, center=True, class_limit=limit, rank_limit=4)
        made.frame()
        with torch.profiler.profile() as profile:
            made.posterior_direction(case.merged)
        views = ('aten::slice', 'aten::promote_types', 'aten::flatten', 'aten::numpy_T', 'aten::view_as')
        calls = [event.name for event in profile.events()
                 if event.cpu_parent is None and event.name.startswith('aten::') and event.name not in views]
        assert len(calls) <= most, calls


def test_literal_step_and_its_gradients(problem):
    """In closed form: d sum(A R) / d W = 2 eta beta sum_i Z_i^T R_i V_i."""
    case = problem(7, scale=0.5)
    made = statistics(case, normalize=True, center=True, beta=2.0)
    directions, change = made.posterior_direction(case.merged), case.randn(12, 6, 3)
    layer, eta = (0.1 * case.randn(2, 2)).requires_grad_(), torch.tensor(0.5).double().requires_grad_()
    step = literal_step(case.randn(6, 3), case.tokens, case.merged, made, eta, layer)
    gradients = torch.autograd.grad((step * change).sum(), (layer, eta))
    inputs = case.tokens + case.tokens @ layer
    expected = 2 * 2.0 * 0.5 * (case.tokens.mT @ change @ directions).sum(0), 2 * 2.0 * (
        inputs @ directions.mT * change).sum()
    torch.testing.assert_close(gradients, expected, rtol=1e-9, atol=1e-12)


def test_meta_tensors_have_shapes():
    made = ClassStatistics(9, 4, 24, 3, normalize=True, class_limit=5, rank_limit=4).to('meta')
    merged = made.project(torch.zeros(2, 4, 24, device='meta'))
    assert made.posterior_direction(merged).shape == (2, 4, 3) and made.assign(merged).shape == (2, 9)
