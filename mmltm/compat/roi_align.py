"""RoIAlign (He et al., arXiv 1703.06870) by torchvision, average pooling only.

Departure from mmcv: max pooling within a bin (``pool_mode='max'``) raises.
"""

import torch
from torch import Tensor
from torch.autograd.functional import vjp
from torchvision.ops import roi_align

from .common import promote, unsupported

AVERAGE = 1


def _check_rois(rois: Tensor, aligned: bool) -> None:
    """Refuse what torchvision's CPU kernel would answer by reading or allocating out of bounds."""
    # Other devices' kernels stay within bounds, and a check would wait for the device.
    if rois.device.type != 'cpu':
        return
    good = rois.isfinite().all(1)
    # Without `aligned`, an inverted box counts as 1 x 1.
    if aligned:
        good &= (rois[:, 3:] >= rois[:, 1:3]).all(1)
    if not good.all():
        index = int(good.long().argmin())
        raise ValueError(
            f'RoIAlign needs finite boxes with x1 <= x2 and y1 <= y2, box {index} is '
            f'{rois[index, 1:].tolist()}; boxes that are not finite mean that training has diverged')


def roi_align_forward(input: Tensor, rois: Tensor, output: Tensor, argmax_y: Tensor, argmax_x: Tensor,
                      aligned_height: int, aligned_width: int, spatial_scale: float, sampling_ratio: int,
                      pool_mode: int, aligned: bool) -> None:
    """Pool features (N, C, H, W) within boxes to a fixed size, over ``output`` (K, C, aligned_height, aligned_width).

    ``rois`` (K, 5) are image index and x1 y1 x2 y2 in pixels of the image, ``spatial_scale`` times as large as the
    features. A bin has ``sampling_ratio`` samples along each axis; 0 for one a feature cell. With ``aligned`` boxes are
    shifted by half a cell, so that cell centres are at integers.

    Raises:
        NotImplementedError: If ``pool_mode`` is 0 (max).
        ValueError: On CPU, if a box is not finite or, with ``aligned``, inverted.
    """
    if pool_mode != AVERAGE:
        unsupported("roi_align with pool_mode='max'")
    _check_rois(rois, aligned)
    input, rois = promote(input, rois)
    size = (aligned_height, aligned_width)
    output.copy_(roi_align(input, rois, size, spatial_scale, sampling_ratio, aligned))


def roi_align_backward(grad_output: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor, grad_input: Tensor,
                       aligned_height: int, aligned_width: int, spatial_scale: float, sampling_ratio: int,
                       pool_mode: int, aligned: bool) -> None:
    """Gradient of :func:`roi_align_forward` for its features, added to ``grad_input`` (N, C, H, W)."""
    grad_output, rois = promote(grad_output, rois)
    size = (aligned_height, aligned_width)
    # Linear in the features: the gradient is the same at all of them.
    features = torch.zeros_like(grad_input, dtype=rois.dtype)
    grad_input += vjp(
        lambda x: roi_align(x, rois, size, spatial_scale, sampling_ratio, aligned), features, grad_output)[1]
