"""Focal loss of sigmoids (Lin et al., arXiv 1708.02002, Eq. 5), with its gradient in closed form.

With p the probability of the right answer, l = -alpha (1 - p)^gamma log p, and for p = sigmoid(z)
dl/dz = -alpha (1 - p)^gamma (1 - p - gamma p log p). Autograd through torchvision's loss would give NaN for gamma < 1
where 1 - p underflows. Departure from mmcv: log p is exact, not cut off at the log of the smallest float.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .common import promote


def _decisions(logits: Tensor, target: Tensor, weight: Tensor, alpha: float) -> tuple[Tensor, Tensor, Tensor]:
    """Of each decision, (n, C): the logit of the right answer, its sign in the input, and the factor of the loss."""
    logits, weight = promote(logits, weight)
    positive = (target[:, None] == torch.arange(logits.size(1), device=logits.device)).to(logits)  # none for background
    factors = alpha * positive + (1 - alpha) * (1 - positive)
    signs = 2 * positive - 1
    return signs * logits, signs, factors * weight[target, None] if weight.numel() else factors


def sigmoid_focal_loss_forward(input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float,
                               alpha: float) -> None:
    """Loss of each of C binary decisions a sample from logits (n, C), over ``output`` (n, C).

    Targets (n,) are class indices; C is background. ``weight`` is empty or a factor of a sample by its class, (C,);
    background has none: an index error. ``alpha`` is the weight of the sample's class, the others get 1 - alpha.
    """
    z, _, factors = _decisions(input, target, weight, alpha)
    output.copy_(-factors * torch.sigmoid(-z)**gamma * F.logsigmoid(z))


def sigmoid_focal_loss_backward(input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor,
                                gamma: float, alpha: float) -> None:
    """Gradient of the sum of :func:`sigmoid_focal_loss_forward` for its logits overwrites ``grad_input`` (n, C)."""
    z, signs, factors = _decisions(input, target, weight, alpha)
    miss = torch.sigmoid(-z)
    slope = miss - gamma * torch.sigmoid(z) * F.logsigmoid(z)
    grad_input.copy_(-signs * factors * miss**gamma * slope)
