"""The closed form of the mask gradient against automatic differentiation of the bound."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmltm.ib import (
    bound_direction,
    class_centroids,
    conditional_assignment,
    ib_bound,
    mask_gradient,
    soft_assignment,
)


def automatic(case, centroids, q, targets, beta, normalize, present=None):
    """d IBB / d G through X~ = G^T Z, centroids and Q held fixed."""
    mask = case.mask.clone().requires_grad_()
    merged = torch.einsum('np,ind->ipd', mask, case.tokens)
    phi = soft_assignment(merged, centroids, beta, normalize, present)
    phi_input = case.randn(len(merged), 5).softmax(1)
    ib_bound(phi, phi_input, targets, q)[0].backward()
    return mask.grad


def statistics(case, beta, normalize, present=None):
    centroids = class_centroids(case.merged, case.targets, case.classes)
    phi = soft_assignment(case.merged, centroids, beta, normalize, present)
    return centroids, conditional_assignment(phi, case.targets)


@settings(max_examples=120)
@given(seed=st.integers(0, 2**20), beta=st.sampled_from([0.5, 1.0, 10.0]), normalize=st.booleans(),
       shape=st.fixed_dictionaries(dict(
           samples=st.integers(1, 16), classes=st.integers(1, 6), tokens=st.integers(1, 8),
           merged=st.integers(1, 6), channels=st.integers(1, 5), scale=st.sampled_from([0.03, 0.3, 1.0]),
           soft=st.booleans())))
def test_closed_form_equals_autograd(problem, seed, beta, normalize, shape):
    case = problem(seed, **shape)
    centroids, q = statistics(case, beta, normalize)
    closed = mask_gradient(case.tokens, case.merged, centroids, q, case.targets, beta, normalize)
    torch.testing.assert_close(
        closed, automatic(case, centroids, q, case.targets, beta, normalize), rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize('normalize', [False, True])
@pytest.mark.parametrize('soft', [False, True])
def test_statistics_of_another_batch(problem, normalize, soft):
    """Q need not come from the phi at hand, and some of its entries may be zero."""
    case, earlier = problem(1, soft=soft, scale=0.5), problem(2, scale=0.5)
    centroids, q = statistics(earlier, 1.0, normalize)
    q[2, 1] = q[0, 3] = 0
    closed = mask_gradient(case.tokens, case.merged, centroids, q, case.targets, 1.0, normalize)
    torch.testing.assert_close(closed, automatic(case, centroids, q, case.targets, 1.0, normalize))


@pytest.mark.parametrize('normalize', [False, True])
def test_absent_classes_take_no_part(problem, normalize):
    case = problem(3)
    expected = mask_gradient(
        case.tokens, case.merged, *statistics(case, 1.0, normalize), case.targets, normalize=normalize)
    case.classes = 9
    present = torch.arange(9) < 4
    statistic = statistics(case, 1.0, normalize, present)
    # What stands in the row of an absent class must not matter.
    statistic[0][4:] = 1e3
    gradient = mask_gradient(
        case.tokens, case.merged, *statistic, case.targets, normalize=normalize, present=present)
    torch.testing.assert_close(gradient, expected)


def test_a_label_unknown_to_q_gives_no_direction(problem):
    case = problem(4)
    case.classes = 5
    centroids, q = statistics(case, 1.0, False, torch.arange(5) < 4)
    phi = soft_assignment(case.merged, centroids, present=torch.arange(5) < 4)
    direction = bound_direction(case.merged, phi, centroids, q, torch.full((12,), 4))
    torch.testing.assert_close(direction, torch.zeros_like(direction), rtol=0, atol=1e-12)


def test_a_zero_target_leaves_the_sample_out(problem):
    case = problem(5, soft=True)
    centroids, q = statistics(case, 1.0, False)
    targets = case.targets.clone()
    targets[::3] = 0
    kept = targets.sum(1) > 0
    gradient = mask_gradient(case.tokens, case.merged, centroids, q, targets)
    torch.testing.assert_close(
        gradient, mask_gradient(case.tokens[kept], case.merged[kept], centroids, q, targets[kept]))
    # Only the shares of the samples count.
    torch.testing.assert_close(
        mask_gradient(case.tokens, case.merged, centroids, q, 0.01 * targets), gradient)
    nobody = mask_gradient(case.tokens, case.merged, centroids, q, torch.zeros_like(targets))
    assert nobody.eq(0).all()


def test_gradient_is_the_average_of_the_directions(problem):
    case = problem(6)
    centroids, q = statistics(case, 2.0, True)
    phi = soft_assignment(case.merged, centroids, 2.0, True)
    direction = bound_direction(case.merged, phi, centroids, q, case.targets, True)
    literal = sum(-2 * 2.0 * case.tokens[i] @ direction[i].T for i in range(12)) / 12
    torch.testing.assert_close(
        mask_gradient(case.tokens, case.merged, centroids, q, case.targets, 2.0, True), literal)


def test_a_step_against_the_gradient_lowers_the_bound(problem):
    case = problem(7, scale=0.5)
    centroids, q = statistics(case, 1.0, False)
    gradient = mask_gradient(case.tokens, case.merged, centroids, q, case.targets)

    def bound(mask):
        phi = soft_assignment(torch.einsum('np,ind->ipd', mask, case.tokens), centroids)
        return ib_bound(phi, torch.full_like(phi, 0.25), case.targets, q)[0]

    assert bound(case.mask - 1e-2 * gradient) < bound(case.mask) < bound(case.mask + 1e-2 * gradient)


@pytest.mark.parametrize('normalize, beta', [(False, 1.0), (True, 10.0)])
def test_float32_agrees_with_float64_on_features_of_norm_1e3(problem, normalize, beta):
    """Distances of order one beside a large common offset; with normalisation, large features all around."""
    case = problem(8, samples=32, channels=8, scale=200 if normalize else 0.3)
    if not normalize:
        offset = case.randn(8)
        case.tokens += 1e3 / 3**0.5 * offset / offset.norm()
    case.tokens = case.tokens.float()
    case.merged = torch.einsum('np,ind->ipd', case.mask.float(), case.tokens)
    assert 900 < case.merged.flatten(1).norm(dim=1).mean() < 1100
    centroids, q = statistics(case, beta, normalize)
    inputs = (case.tokens, case.merged, centroids, q)
    gradient = mask_gradient(*inputs, case.targets, beta, normalize).double()
    exact = mask_gradient(*(x.double() for x in inputs), case.targets, beta, normalize)
    assert exact.abs().max() > 0
    assert (gradient - exact).norm() < 1e-4 * exact.norm()


@pytest.mark.parametrize('normalize', [False, True])
def test_float32_survives_norm_1e3_and_classes_of_one_sample(problem, normalize):
    case = problem(9, samples=5, classes=5, scale=1e3, dtype=torch.float32)
    gradient = mask_gradient(
        case.tokens, case.merged, *statistics(case, 1.0, normalize), case.targets, normalize=normalize)
    assert gradient.isfinite().all()
    # A zero feature has no direction; it must not become NaN either.
    case.merged[0] = 0
    gradient = mask_gradient(
        case.tokens, case.merged, *statistics(case, 1.0, normalize), case.targets, normalize=normalize)
    assert gradient.isfinite().all()


def test_autocast_changes_nothing(problem):
    case = problem(10, dtype=torch.float32)
    centroids, q = statistics(case, 1.0, True)
    expected = mask_gradient(case.tokens, case.merged, centroids, q, case.targets, normalize=True)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        gradient = mask_gradient(case.tokens, case.merged, centroids, q, case.targets, normalize=True)
    assert gradient.dtype == torch.float32 and gradient.equal(expected)


def test_bad_input(problem):
    case = problem(11)
    centroids, q = statistics(case, 1.0, False)
    with pytest.raises(ValueError, match=r'tokens of shape \(12, 6, 1\) .* of shape \(12, 3, 2\)'):
        mask_gradient(case.tokens[..., :1], case.merged, centroids, q, case.targets)
    with pytest.raises(ValueError, match=r'merged \(12, 3, 2\).*targets \(11, 4\)'):
        mask_gradient(case.tokens, case.merged, centroids, q, case.targets[1:])
    with pytest.raises(ValueError, match=r'q of shape \(3, 3\)'):
        mask_gradient(case.tokens, case.merged, centroids, q[:3, :3], case.targets)
    with pytest.raises(ValueError, match=r'empty batch, shape \(0, 3, 2\)'):
        mask_gradient(case.tokens[:0], case.merged[:0], centroids, q, case.targets)
    case.tokens[2, 1, 0] = torch.nan
    with pytest.raises(ValueError, match=r'tokens: NaN or infinite values in a tensor of shape \(12, 6, 2\)'):
        mask_gradient(case.tokens, case.merged, centroids, q, case.targets)
