"""Centroids, phi and Q: definitions, precision, classes without samples, bad input."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mmltm.ib import class_centroids, conditional_assignment, soft_assignment, target_distribution


def literal_phi(features, centroids, beta=1.0):
    distances = (features.flatten(1)[:, None] - centroids.flatten(1)[None]).square().sum(2)
    return (-beta * distances).softmax(1)


@settings(max_examples=50)
@given(seed=st.integers(0, 2**20), beta=st.sampled_from([0.1, 1.0, 10.0]), soft=st.booleans())
def test_definitions(problem, seed, beta, soft):
    case = problem(seed, soft=soft)
    p = target_distribution(case.targets, case.classes).double()
    centroids = class_centroids(case.merged, case.targets, case.classes)
    for a in range(case.classes):
        mean = sum(p[i, a] * case.merged[i] for i in range(len(p))) / p[:, a].sum()
        torch.testing.assert_close(centroids[a], mean)
    phi = soft_assignment(case.merged, centroids, beta)
    torch.testing.assert_close(phi, literal_phi(case.merged, centroids, beta))
    q = conditional_assignment(phi, case.targets)
    torch.testing.assert_close(q, torch.einsum('ia,iy->ay', phi, p) / p.sum(0))


def test_normalised_phi_sees_directions_only(problem):
    case = problem(1)
    centroids = class_centroids(case.merged, case.targets)
    phi = soft_assignment(case.merged, centroids, normalize=True)
    unit, anchors = F.normalize(case.merged.flatten(1)), F.normalize(centroids.flatten(1))
    torch.testing.assert_close(phi, literal_phi(unit, anchors))
    torch.testing.assert_close(phi, soft_assignment(7 * case.merged, 3 * centroids, normalize=True))


def test_float32_keeps_phi_beside_an_offset_of_norm_1e3(problem):
    """Distances of order one between features of norm 1e3: without centring, no digit of them is left."""
    case = problem(2, scale=0.3, channels=8)
    offset = case.randn(1, *case.merged.shape[1:])
    merged = (case.merged + 1e3 * offset / offset.norm()).float()
    centroids = class_centroids(merged, case.targets)
    phi = soft_assignment(merged, centroids)
    exact = literal_phi(merged.double(), centroids.double())
    assert 0.2 < exact.max(1).values.median() < 0.99, 'the case must not be trivial'
    torch.testing.assert_close(phi.double(), exact, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('normalize', [False, True])
def test_float32_survives_norm_1e3_and_classes_of_one_sample(problem, normalize):
    case = problem(3, samples=5, classes=5, scale=1e3, dtype=torch.float32)
    centroids = class_centroids(case.merged, case.targets)
    torch.testing.assert_close(centroids[case.targets], case.merged, rtol=0, atol=0)
    phi = soft_assignment(case.merged, centroids, normalize=normalize)
    assert phi.isfinite().all()
    assert phi.argmax(1).equal(case.targets)
    if not normalize:
        assert phi.equal(F.one_hot(case.targets).float())


@pytest.mark.parametrize('normalize', [False, True])
def test_absent_classes_take_no_part(problem, normalize):
    case = problem(4)
    few = class_centroids(case.merged, case.targets)
    many = class_centroids(case.merged, case.targets, num_classes=9)
    assert many[case.classes:].eq(0).all()
    present = target_distribution(case.targets, 9).sum(0) > 0
    phi = soft_assignment(case.merged, many, normalize=normalize, present=present)
    assert phi[:, ~present].eq(0).all()
    torch.testing.assert_close(phi[:, present], soft_assignment(case.merged, few, normalize=normalize))
    q = conditional_assignment(phi, case.targets)
    torch.testing.assert_close(q.sum(0), torch.ones(9).double())
    assert q[~present][:, present].eq(0).all()
    nobody = soft_assignment(case.merged, many, present=torch.zeros(9, dtype=torch.bool))
    assert nobody.eq(0).all()


def test_a_zero_target_leaves_the_sample_out(problem):
    case = problem(5, soft=True)
    targets = case.targets.clone()
    targets[::3] = 0
    kept = targets.sum(1) > 0
    centroids = class_centroids(case.merged, targets)
    torch.testing.assert_close(centroids, class_centroids(case.merged[kept], targets[kept]))
    phi = soft_assignment(case.merged, centroids)
    torch.testing.assert_close(
        conditional_assignment(phi, targets), conditional_assignment(phi[kept], targets[kept]))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_low_precision_is_computed_in_float32(problem, dtype):
    case = problem(6, scale=300, dtype=torch.float32)
    merged = case.merged.to(dtype)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        centroids = class_centroids(merged, case.targets)
        phi = soft_assignment(merged, centroids, beta=1e-5)
    assert centroids.dtype == phi.dtype == torch.float32
    torch.testing.assert_close(centroids, class_centroids(merged.float(), case.targets), rtol=0, atol=0)
    torch.testing.assert_close(phi, soft_assignment(merged.float(), centroids, beta=1e-5), rtol=0, atol=0)


@pytest.mark.parametrize('targets, message', [
    (torch.tensor([0, 1, 4]), r'class index 4 is outside the 4 classes 0 to 3'),
    (torch.tensor([0, -2, 1]), r'class index -2 is outside the 4 classes'),
    (torch.rand(3, 5), r'\(3, 5\) are distributions over 5 classes, but there are 4'),
    (torch.tensor([[1., 0, 0, 0], [2, -1, 0, 0]]), r'class 1 in row 1 is -1.0'),
    (torch.tensor([[1., 0, 0, torch.nan]]), r'class 3 in row 0 is nan'),
    (torch.tensor([0.0, 1.0]), r'integer class indices .* not \(2,\) of torch.float32'),
    (torch.zeros(3, 4, dtype=torch.long), r'not \(3, 4\) of torch.int64'),
    (torch.zeros(0, dtype=torch.long), r'empty batch, shape \(0,\)'),
])
def test_bad_targets(targets, message):
    with pytest.raises(ValueError, match=message):
        target_distribution(targets, 4)


def test_bad_features(problem):
    case = problem(7)
    centroids = class_centroids(case.merged, case.targets)
    with pytest.raises(ValueError, match=r'features: empty batch, shape \(0, 3, 2\)'):
        soft_assignment(case.merged[:0], centroids)
    with pytest.raises(ValueError, match=r'\(12, 6\) do not match centroids of shape \(4, 3, 2\)'):
        soft_assignment(case.inputs[:, :6], centroids)
    with pytest.raises(ValueError, match=r'features \(12, 3, 2\), targets \(11, 4\)'):
        class_centroids(case.merged, case.targets[1:], 4)
    with pytest.raises(ValueError, match=r'needs floating tensors'):
        class_centroids(case.merged.long(), case.targets)
    for bad in (torch.nan, torch.inf):
        case.merged[3, 1, 0] = bad
        with pytest.raises(ValueError, match=r'NaN or infinite values in a tensor of shape \(12, 3, 2\)'):
            class_centroids(case.merged, case.targets)
        with pytest.raises(ValueError, match=r'NaN or infinite values in a tensor of shape \(12, 3, 2\)'):
            soft_assignment(case.merged, centroids)
