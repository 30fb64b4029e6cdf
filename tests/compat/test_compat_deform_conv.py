import itertools
import math

import pytest
import torch
from mmcv import _ext as ext
from mmcv.ops import DeformConv2d, ModulatedDeformConv2dPack, deform_conv2d, modulated_deform_conv2d

# kernel, stride, padding, dilation, groups, deform_groups
GEOMETRIES = [
    ((1, 1), (1, 1), (0, 0), (1, 1), 1, 1),
    ((3, 2), (2, 1), (1, 0), (1, 2), 1, 2),
    ((2, 3), (1, 2), (0, 2), (2, 1), 2, 1),
    ((2, 2), (1, 1), (1, 1), (1, 1), 2, 4),
]


def sample(plane, y, x):
    """Bilinear value of a plane at (y, x); zero outside."""
    total, top, left = 0, math.floor(y.item()), math.floor(x.item())
    for row, column in itertools.product((top, top + 1), (left, left + 1)):
        if 0 <= row < plane.size(0) and 0 <= column < plane.size(1):
            total = total + plane[row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def reference(inputs, offset, weight, mask, bias, stride, padding, dilation, groups, deform_groups):
    """Eq. 2 of arXiv 1703.06211 (Eq. 1 of 1811.11168 with a mask), sample by sample."""
    (batch, channels, _, _), (out_channels, width, kh, kw) = inputs.shape, weight.shape
    out = []
    for n, o, y, x in itertools.product(range(batch), range(out_channels), *map(range, offset.shape[2:])):
        value = bias[o]
        for c, i, j in itertools.product(range(width), range(kh), range(kw)):
            channel = o // (out_channels // groups) * width + c
            k = channel // (channels // deform_groups) * kh * kw + i * kw + j
            dy, dx = offset[n, 2 * k:2 * k + 2, y, x]
            at = sample(inputs[n, channel], y * stride[0] - padding[0] + i * dilation[0] + dy,
                        x * stride[1] - padding[1] + j * dilation[1] + dx)
            value = value + weight[o, c, i, j] * mask[n, k, y, x] * at
        out.append(value)
    return torch.stack(out).view(batch, out_channels, *offset.shape[2:])


def case(kernel, stride, padding, dilation, groups, deform_groups):
    """Random inputs, offset, weight, mask and bias in float64."""
    torch.manual_seed(0)
    size = [(s + 2 * p - d * (k - 1) - 1) // t + 1
            for s, p, d, k, t in zip((5, 4), padding, dilation, kernel, stride)]
    taps = deform_groups * kernel[0] * kernel[1]
    shapes = (2, 4, 5, 4), (2, 2 * taps, *size), (2, 4 // groups, *kernel), (2, taps, *size), (2,)
    return [torch.randn(shape, dtype=torch.float64) for shape in shapes]


def compare(convolve, tensors, constants, geometry):
    ours, theirs = ([t.clone().requires_grad_() for t in tensors] for _ in range(2))
    output, expected = convolve(*ours), reference(*theirs, *constants, *geometry)
    torch.testing.assert_close(output, expected, atol=1e-12, rtol=0)
    grad = torch.randn_like(expected)
    output.backward(grad)
    expected.backward(grad)
    for mine, other in zip(ours, theirs):
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-12, rtol=0)


@pytest.mark.parametrize('kernel, stride, padding, dilation, groups, deform_groups', GEOMETRIES)
def test_deformable_convolution(kernel, stride, padding, dilation, groups, deform_groups):
    geometry = stride, padding, dilation, groups, deform_groups
    *tensors, mask, bias = case(kernel, *geometry)
    compare(lambda *t: deform_conv2d(*t, *geometry, False, 1), tensors,
            (torch.ones_like(mask), torch.zeros_like(bias)), geometry)


@pytest.mark.parametrize('kernel, stride, padding, dilation, groups, deform_groups', GEOMETRIES)
@pytest.mark.parametrize('with_bias', [True, False])
def test_modulated_convolution(kernel, stride, padding, dilation, groups, deform_groups, with_bias):
    geometry = stride, padding, dilation, groups, deform_groups
    *tensors, bias = case(kernel, *geometry)

    def convolve(inputs, offset, weight, mask, bias=None):
        return modulated_deform_conv2d(inputs, offset, mask, weight, bias, *geometry)

    if with_bias:
        compare(convolve, [*tensors, bias], (), geometry)
    else:
        compare(convolve, tensors, (torch.zeros_like(bias), ), geometry)


@pytest.mark.parametrize('trained', [0, 1, 2])
def test_gradient_of_one_input_alone(trained):
    geometry = (1, 1), (1, 1), (1, 1), 1, 1
    tensors = case((3, 3), *geometry)[:3]
    everything = [t.clone().requires_grad_() for t in tensors]
    deform_conv2d(*everything, *geometry, False, 2).square().sum().backward()
    tensors[trained].requires_grad_()
    deform_conv2d(*tensors, *geometry, False, 2).square().sum().backward()
    torch.testing.assert_close(tensors[trained].grad, everything[trained].grad, atol=0, rtol=0)


def test_gradients_add_to_what_is_there():
    inputs, offset, weight = torch.tensor([[[[2.]]]]), torch.zeros(1, 2, 1, 1), torch.tensor([[[[3.]]]])
    grad_output, buffer = torch.tensor([[[[5.]]]]), torch.zeros(0)
    geometry = dict(kW=1, kH=1, dW=1, dH=1, padW=0, padH=0, dilationW=1, dilationH=1, group=1,
                    deformable_group=1, im2col_step=1)
    grad_inputs, grad_offset, grad_weight = map(torch.ones_like, (inputs, offset, weight))
    ext.deform_conv_backward_input(
        inputs, offset, grad_output, grad_inputs, grad_offset, weight, buffer, **geometry)
    ext.deform_conv_backward_parameters(
        inputs, offset, grad_output, grad_weight, buffer, buffer, scale=0.5, **geometry)
    assert grad_inputs.item() == 1 + 3 * 5
    assert grad_weight.item() == 1 + 0.5 * 2 * 5
    # The value falls off by 2 a cell on all sides of the only cell; what counts is the slope to the right.
    assert grad_offset.flatten().tolist() == [1 - 2 * 3 * 5] * 2


@pytest.mark.parametrize('bad', [float('nan'), float('inf'), float('-inf')])
def test_offsets_that_are_no_place_sample_nothing(bad):
    torch.manual_seed(0)
    inputs, weight = torch.randn(1, 1, 5, 5), torch.randn(1, 1, 1, 1)
    offset = torch.zeros(1, 2, 5, 5)
    offset[0, 0, 0, 0] = offset[0, 1, 1, 1] = offset[0, :, 2, 2] = bad
    leaves = [t.requires_grad_() for t in (inputs, offset, weight)]
    output = deform_conv2d(*leaves)
    expected = weight * inputs
    for place in range(3):
        assert output[0, 0, place, place] == 0
        expected[0, 0, place, place] = 0
    torch.testing.assert_close(output, expected)
    output.sum().backward()
    for leaf in leaves:
        assert leaf.grad.isfinite().all()


def test_layers_in_half_precision():
    torch.manual_seed(0)
    x = torch.randn(2, 4, 6, 6)
    plain, modulated = DeformConv2d(4, 4, 3, padding=1), ModulatedDeformConv2dPack(4, 4, 3, padding=1)
    offset = torch.randn(2, 18, 6, 6)
    with torch.autocast('cpu', torch.bfloat16):
        outputs = plain(x, offset.bfloat16()), modulated(x)
    for output, expected in zip(outputs, (plain(x, offset), modulated(x))):
        assert output.dtype == torch.bfloat16
        torch.testing.assert_close(output.float(), expected, atol=5e-2, rtol=5e-2)
    sum(output.float().sum() for output in outputs).backward()
    for parameter in (*plain.parameters(), *modulated.parameters()):
        assert parameter.grad.isfinite().all() and parameter.grad.any()
