import pytest
import torch
from mmcv import _ext as ext
from mmcv.ops import SigmoidFocalLoss, sigmoid_focal_loss, softmax_focal_loss

GAMMAS = (0.0, 0.5, 1.0, 2.0)


def reference_sigmoid(logits, target, gamma, alpha, weight=None):
    """Eq. 5 of the paper, decision by decision."""
    rows = []
    for row, label in zip(logits, target.tolist()):
        for c, x in enumerate(row):
            p = 1 / (1 + torch.exp(-x))
            p_t, alpha_t = (p, alpha) if c == label else (1 - p, 1 - alpha)
            factor = 1 if weight is None else weight[label]
            rows.append(-factor * alpha_t * (1 - p_t)**gamma * torch.log(p_t))
    return torch.stack(rows).view_as(logits)


@pytest.mark.parametrize('gamma', GAMMAS)
@pytest.mark.parametrize('weighted', [False, True])
def test_sigmoid_loss(gamma, weighted):
    """Losses of the samples, and loss and gradient of each reduction."""
    torch.manual_seed(0)
    # The last class index, 4, is the background, which has no weight.
    target = torch.randint(0, 4 if weighted else 5, (12,))
    weight = torch.rand(4, dtype=torch.float64) if weighted else None
    logits = torch.randn(len(target), 4, dtype=torch.float64) * 3
    torch.testing.assert_close(sigmoid_focal_loss(logits, target, gamma, 0.3, weight, 'none'),
                               reference_sigmoid(logits, target, gamma, 0.3, weight), atol=1e-12, rtol=1e-10)
    for reduction in ('mean', 'sum'):
        ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
        output = sigmoid_focal_loss(ours, target, gamma, 0.3, weight, reduction)
        expected = reference_sigmoid(theirs, target, gamma, 0.3, weight).sum()
        if reduction == 'mean':
            expected = expected / len(target)
        torch.testing.assert_close(output, expected, atol=1e-12, rtol=1e-10)
        output.backward()
        expected.backward()
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize('gamma', GAMMAS)
def test_saturated_logits_stay_finite(gamma):
    logits = torch.tensor([[0, 200], [200, 0], [-200, 200], [0, 0.]], requires_grad=True)
    output = sigmoid_focal_loss(logits, torch.tensor([0, 0, 0, 1]), gamma, 0.25, None, 'sum')
    output.backward()
    assert output.isfinite() and logits.grad.isfinite().all()


def test_a_lost_decision_costs_its_logit():
    # -log sigmoid(-200) = 200, beyond the smallest float's -log of 87.
    loss = sigmoid_focal_loss(torch.tensor([[-200.]]), torch.tensor([0]), 2.0, 0.25, None, 'none')
    assert loss.item() == pytest.approx(0.25 * 200)


def test_half_precision():
    torch.manual_seed(0)
    logits, target = torch.randn(6, 3), torch.randint(0, 3, (6,))
    half = logits.half().requires_grad_()
    loss = SigmoidFocalLoss(2.0, 0.25, reduction='sum')
    output = loss(half, target)
    assert output.dtype == torch.float16
    torch.testing.assert_close(output.float(), loss(logits, target), atol=1e-2, rtol=1e-2)
    output.backward()
    assert half.grad.dtype == torch.float16 and half.grad.isfinite().all()


def test_no_samples():
    logits, target, weight = torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), torch.zeros(0)
    output = torch.zeros(0, 3)
    ext.sigmoid_focal_loss_forward(logits, target, weight, output, gamma=2.0, alpha=0.25)
    assert output.shape == (0, 3)


def test_background_has_no_class_weight():
    with pytest.raises(IndexError):
        sigmoid_focal_loss(torch.zeros(1, 2), torch.tensor([2]), 2.0, 0.25, torch.ones(2), 'none')


def test_softmax_has_no_stand_in():
    with pytest.raises(NotImplementedError, match='softmax_focal_loss_forward.*needs a compiled mmcv'):
        softmax_focal_loss(torch.zeros(1, 2), torch.tensor([0]), 2.0, 0.25, None, 'none')
