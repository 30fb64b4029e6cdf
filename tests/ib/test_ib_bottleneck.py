"""IB loss and bound: definitions, Theorem 3.1, invariances, underflow."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmltm.ib import (
    class_centroids,
    conditional_assignment,
    ib_bound,
    ib_loss,
    mask_gradient,
    soft_assignment,
    target_distribution,
)


def assignments(case, beta=1.0, normalize=False):
    """phi of merged and of input features, and Q."""
    merged = soft_assignment(
        case.merged, class_centroids(case.merged, case.targets, case.classes), beta, normalize)
    inputs = soft_assignment(
        case.inputs, class_centroids(case.inputs, case.targets, case.classes), beta, normalize)
    return merged, inputs, conditional_assignment(merged, case.targets)


def literal_information(joint):
    outer = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    return sum(float(p * (p / o).log()) for p, o in zip(joint.flatten(), outer.flatten()) if p > 0)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**20), soft=st.booleans())
def test_definitions(problem, seed, soft):
    case = problem(seed, soft=soft, scale=0.5)
    phi_merged, phi_input, q = assignments(case)
    p, n = target_distribution(case.targets, case.classes).double(), len(case.targets)
    p = p / p.sum(1, keepdim=True)
    loss, merged_input, merged_label = ib_loss(phi_merged, phi_input, case.targets)
    assert float(merged_input) == pytest.approx(literal_information(phi_merged.T @ phi_input / n), abs=1e-12)
    assert float(merged_label) == pytest.approx(literal_information(phi_merged.T @ p / n), abs=1e-12)
    assert float(loss) == float(merged_input) - float(merged_label)
    bound, c0 = ib_bound(phi_merged, phi_input, case.targets, q)
    literal_bound = sum(
        torch.einsum('a,b,b->', phi_merged[i], phi_input[i], phi_input[i].log())
        - torch.einsum('a,y,ay->', phi_merged[i], p[i], q.log()) for i in range(n)) / n
    literal_c0 = sum((phi_input[i] * phi_input[j].log()).sum() for i in range(n) for j in range(n)) / n**2
    torch.testing.assert_close(bound, literal_bound)
    torch.testing.assert_close(c0, literal_c0)


@settings(max_examples=250)
@given(seed=st.integers(0, 2**20), samples=st.integers(1, 20), classes=st.integers(1, 6),
       scale=st.floats(1e-3, 1e3), soft=st.booleans(), normalize=st.booleans(), other_q=st.booleans())
def test_theorem_31(problem, seed, samples, classes, scale, soft, normalize, other_q):
    """IB <= IBB - C0, from nearly uniform phi to phi that underflows, with Q of this batch or any other."""
    case = problem(seed, samples=samples, classes=classes, scale=scale, soft=soft)
    phi_merged, phi_input, q = assignments(case, normalize=normalize)
    if other_q:
        q = (3 * case.randn(classes, classes)).softmax(0)
    loss, *_ = ib_loss(phi_merged, phi_input, case.targets)
    bound, c0 = ib_bound(phi_merged, phi_input, case.targets, q)
    assert torch.stack([loss, bound, c0]).isfinite().all()
    assert loss <= bound - c0 + 1e-9


@settings(max_examples=25)
@given(seed=st.integers(0, 2**20), permutation=st.permutations(range(4)), normalize=st.booleans())
def test_relabelling_classes_changes_nothing(problem, seed, permutation, normalize):
    case = problem(seed)
    permutation = torch.tensor(permutation)

    def quantities():
        phi_merged, phi_input, q = assignments(case, normalize=normalize)
        centroids = class_centroids(case.merged, case.targets, case.classes)
        return (*ib_loss(phi_merged, phi_input, case.targets),
                *ib_bound(phi_merged, phi_input, case.targets, q),
                mask_gradient(case.tokens, case.merged, centroids, q, case.targets, normalize=normalize)), q

    before, q = quantities()
    case.targets = permutation[case.targets]
    after, permuted_q = quantities()
    torch.testing.assert_close(permuted_q[permutation][:, permutation], q)
    for one, other in zip(before, after):
        torch.testing.assert_close(one, other)


def test_one_hot_targets_equal_indices(problem):
    case = problem(1)
    phi_merged, phi_input, q = assignments(case)
    one_hot = torch.nn.functional.one_hot(case.targets).double()
    assert conditional_assignment(phi_merged, one_hot).equal(q)
    assert ib_loss(phi_merged, phi_input, one_hot) == ib_loss(phi_merged, phi_input, case.targets)
    assert ib_bound(phi_merged, phi_input, one_hot, q) == ib_bound(phi_merged, phi_input, case.targets, q)


def test_a_zero_target_leaves_the_sample_out(problem):
    case = problem(2, soft=True)
    phi_merged, phi_input, q = assignments(case)
    targets = case.targets.clone()
    targets[::2] = 0
    torch.testing.assert_close(
        ib_loss(phi_merged, phi_input, targets), ib_loss(phi_merged[1::2], phi_input[1::2], targets[1::2]))
    torch.testing.assert_close(
        ib_bound(phi_merged, phi_input, targets, q),
        ib_bound(phi_merged[1::2], phi_input[1::2], targets[1::2], q))
    with pytest.raises(ValueError, match=r'\(12, 4\): no sample has a target'):
        ib_loss(phi_merged, phi_input, torch.zeros(12, 4))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_underflow_stays_finite_in_value_and_gradient(problem, dtype):
    """One-hot phi with exact zeros, of the merged and of the input features, and in Q."""
    phi = torch.eye(4, dtype=dtype).repeat(3, 1).requires_grad_()
    targets = torch.arange(4).repeat(3)
    q = conditional_assignment(phi, targets).detach()
    loss, merged_input, merged_label = ib_loss(phi, phi, targets)
    bound, c0 = ib_bound(phi, phi, targets, q)
    for value, expected in ((merged_input, math.log(4)), (merged_label, math.log(4)), (bound, 0)):
        assert value.item() == pytest.approx(expected, rel=1e-6)
    assert c0.isfinite() and loss <= bound - c0
    (loss + bound + c0).backward()
    assert phi.grad.isfinite().all()


def test_float32_agrees_with_float64(problem):
    case = problem(3, samples=64, classes=8, channels=4, scale=0.4)
    values = []
    for dtype in (torch.float64, torch.float32):
        case.merged, case.inputs = case.merged.to(dtype), case.inputs.to(dtype)
        phi_merged, phi_input, q = assignments(case)
        values.append(torch.stack([*ib_loss(phi_merged, phi_input, case.targets),
                                   *ib_bound(phi_merged, phi_input, case.targets, q)]))
    torch.testing.assert_close(values[1].double(), values[0], rtol=1e-5, atol=1e-6)
