"""Focal loss (Lin et al., arXiv 1708.02002, Eq. 5), sigmoid and softmax, with their gradients in closed form.

With p the probability of the right answer, l = -alpha (1 - p)^gamma log p, and for p = sigmoid(z)
dl/dz = -alpha (1 - p)^gamma (1 - p - gamma p log p). Autograd through torchvision's loss would give NaN for gamma < 1
where 1 - p underflows. Departure from mmcv: the sigmoid's log p is exact, not cut off at the log of the smallest float.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .common import promote


def _onehot(logits: Tensor, target: Tensor) -> Tensor:
    """(n, C): 1 for a sample's class; a row of zeros for an index outside [0, C)."""
    return (target[:, None] == torch.arange(logits.size(1), device=logits.device)).to(logits)


def _log(p: Tensor) -> Tensor:
    """Logarithm that stays finite where a probability has underflowed."""
    return p.clamp(min=torch.finfo(p.dtype).tiny).log()


def _signs_and_weights(logits: Tensor, target: Tensor, weight: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """(n, C): +1 for a sample's class and -1 for the others; alpha and 1 - alpha, times the class weight."""
    positive = _onehot(logits, target)
    weights = alpha * positive + (1 - alpha) * (1 - positive)
    return 2 * positive - 1, weights * weight[target, None] if weight.numel() else weights


def sigmoid_focal_loss_forward(input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float,
                               alpha: float) -> None:
    """Loss of each of C binary decisions a sample from logits (n, C), over ``output`` (n, C).

    Targets (n,) are class indices; C is background. ``weight`` is empty or a factor of a sample by its class, (C,);
    background has none: an index error. ``alpha`` is the weight of the sample's class, the others get 1 - alpha.
    """
    logits, weight = promote(input, weight)
    signs, weights = _signs_and_weights(logits, target, weight, alpha)
    z = signs * logits
    output.copy_(-weights * torch.sigmoid(-z)**gamma * F.logsigmoid(z))


def sigmoid_focal_loss_backward(input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor,
                                gamma: float, alpha: float) -> None:
    """Gradient of the sum of :func:`sigmoid_focal_loss_forward` for its logits overwrites ``grad_input`` (n, C)."""
    logits, weight = promote(input, weight)
    signs, weights = _signs_and_weights(logits, target, weight, alpha)
    z = signs * logits
    miss = torch.sigmoid(-z)
    slope = miss - gamma * torch.sigmoid(z) * F.logsigmoid(z)
    grad_input.copy_(-signs * weights * miss**gamma * slope)


def _target_probability(softmax: Tensor, target: Tensor, weight: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """(n,): probability of a sample's class, and alpha times its weight; 1 and 0 for a sample without."""
    valid, index = target >= 0, target.clamp(min=0)
    p = torch.where(valid, softmax.gather(1, index[:, None])[:, 0], 1)
    return p, alpha * valid.to(p) * (weight[index] if weight.numel() else 1)


def softmax_focal_loss_forward(input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float,
                               alpha: float) -> None:
    """Loss of one C-way decision a sample from probabilities (n, C), over ``output`` (n,).

    Targets (n,) are class indices below C, negative ones ignored; ``alpha`` is a factor of all losses.
    """
    softmax, weight = promote(input, weight)
    p, weights = _target_probability(softmax, target, weight, alpha)
    output.copy_(-weights * (1 - p)**gamma * _log(p))


def softmax_focal_loss_backward(input: Tensor, target: Tensor, weight: Tensor, buff: Tensor,
                                grad_input: Tensor, gamma: float, alpha: float) -> None:
    """Gradient of the sum of :func:`softmax_focal_loss_forward` for the logits overwrites ``grad_input`` (n, C)."""
    softmax, weight = promote(input, weight)
    p, weights = _target_probability(softmax, target, weight, alpha)
    miss = 1 - p
    # p log p / (1 - p) at p = 1 is multiplied by zero twice over; only its 0 / 0 must go.
    slope = gamma * p * _log(p) / miss.clamp(min=torch.finfo(p.dtype).tiny) - 1
    grad_input.copy_((weights * miss**gamma * slope)[:, None] * (_onehot(softmax, target) - softmax))
