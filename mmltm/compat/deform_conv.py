"""Deformable convolution v1 and v2 (arXiv 1703.06211, 1811.11168) by torchvision.

mmcv and torchvision order offsets alike, (y, x) for each kernel position; the numbers of groups follow from the shapes.
mmcv's scratch tensors (columns, ones) and its im2col step are unused.
"""

# ruff: noqa: N803  (names of arguments are mmcv's)
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.functional import vjp
from torchvision.ops import deform_conv2d

from .common import promote

Pairs = dict[str, tuple[int, int]]


def _convolve(input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None = None,
              bias: Tensor | None = None, *, pairs: Pairs) -> Tensor:
    # A NaN offset samples nothing, as in mmcv, like any far outside; torchvision would read out of bounds.
    offset = offset.nan_to_num(nan=torch.finfo(offset.dtype).max)
    return deform_conv2d(input, offset, weight, bias, mask=mask, **pairs)


def _add_gradients(inputs: Sequence[Tensor], grad_output: Tensor, totals: Sequence[Tensor | None],
                   pairs: Pairs, scale: float = 1) -> None:
    """Add the gradients for ``inputs`` to ``totals``, where there is one."""
    *inputs, grad_output = promote(*inputs, grad_output)
    for total, grad in zip(totals, vjp(lambda *x: _convolve(*x, pairs=pairs), tuple(inputs), grad_output)[1]):
        if total is not None:
            total.add_(grad, alpha=scale)


def _pairs(geometry: dict[str, int]) -> Pairs:
    names = ('dH', 'dW', 'padH', 'padW', 'dilationH', 'dilationW') if 'dH' in geometry else (
        'stride_h', 'stride_w', 'pad_h', 'pad_w', 'dilation_h', 'dilation_w')
    values = [geometry[name] for name in names]
    return dict(stride=(values[0], values[1]), padding=(values[2], values[3]), dilation=(values[4], values[5]))


def deform_conv_forward(input: Tensor, weight: Tensor, offset: Tensor, output: Tensor, columns: Tensor,
                        ones: Tensor, **geometry: int) -> None:
    """Deformable convolution of (N, C, H, W) with (C', C / groups, kH, kW), over ``output`` (N, C', H', W').

    Offsets (N, 2 * deform_groups * kH * kW, H', W') are in cells. The geometry is dH, dW, padH, padW, dilationH,
    dilationW; what shapes tell is ignored.
    """
    output.copy_(_convolve(*promote(input, offset, weight), pairs=_pairs(geometry)))


def deform_conv_backward_input(input: Tensor, offset: Tensor, gradOutput: Tensor, gradInput: Tensor,
                               gradOffset: Tensor, weight: Tensor, columns: Tensor, **geometry: int) -> None:
    """Gradients of :func:`deform_conv_forward`, added to ``gradInput`` and ``gradOffset``."""
    _add_gradients((input, offset, weight), gradOutput, (gradInput, gradOffset, None), _pairs(geometry))


def deform_conv_backward_parameters(input: Tensor, offset: Tensor, gradOutput: Tensor, gradWeight: Tensor,
                                    columns: Tensor, ones: Tensor, *, scale: float, **geometry: int) -> None:
    """Gradient of :func:`deform_conv_forward`, times ``scale``, added to ``gradWeight``."""
    # Linear in the weight: the gradient is the same at all of them.
    weight = torch.zeros_like(gradWeight)
    _add_gradients((input, offset, weight), gradOutput, (None, None, gradWeight), _pairs(geometry), scale)


def modulated_deform_conv_forward(input: Tensor, weight: Tensor, bias: Tensor, ones: Tensor, offset: Tensor,
                                  mask: Tensor, output: Tensor, columns: Tensor, *, with_bias: bool,
                                  **geometry: int) -> None:
    """As :func:`deform_conv_forward`, with weights of the samples, ``mask`` (N, deform_groups * kH * kW, H', W').

    ``bias`` (C',) is used if ``with_bias``; the geometry is stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w.
    """
    inputs = (input, offset, weight, mask, bias)[:5 if with_bias else 4]
    output.copy_(_convolve(*promote(*inputs), pairs=_pairs(geometry)))


def modulated_deform_conv_backward(input: Tensor, weight: Tensor, bias: Tensor, ones: Tensor, offset: Tensor,
                                   mask: Tensor, columns: Tensor, grad_input: Tensor, grad_weight: Tensor,
                                   grad_bias: Tensor, grad_offset: Tensor, grad_mask: Tensor,
                                   grad_output: Tensor, *, with_bias: bool, **geometry: int) -> None:
    """Gradients of :func:`modulated_deform_conv_forward`, added to the ``grad_`` tensors."""
    inputs = (input, offset, weight, mask, bias)[:5 if with_bias else 4]
    totals = (grad_input, grad_offset, grad_weight, grad_mask, grad_bias)
    _add_gradients(inputs, grad_output, totals, _pairs(geometry))
