import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv import _ext as ext
from mmcv.ops import RoIAlign, roi_align
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor

SETTINGS = [(aligned, ratio) for aligned in (True, False) for ratio in (0, 1, 2)]


def bin_weights(start, end, bins, ratio, size, aligned):
    """(bins, size): what each feature cell of an axis adds to each bin, as a mean over the bin's samples."""
    length = end - start if aligned else max(end - start, 1)
    samples = ratio or math.ceil(length / bins)
    weights = torch.zeros(bins, size, dtype=torch.float64)
    for b in range(bins):
        for s in range(samples):
            at = start + (b + (s + 0.5) / samples) * length / bins
            if -1 <= at <= size:
                at = min(max(at, 0), size - 1)
                low = math.floor(at)
                weights[b, low] += (low + 1 - at) / samples
                weights[b, min(low + 1, size - 1)] += (at - low) / samples
    return weights


def reference(features, rois, size, scale, ratio, aligned):
    """RoIAlign as one matrix product on each axis: bilinear interpolation is separable."""
    pooled = []
    for index, *box in rois.tolist():
        x1, y1, x2, y2 = (c * scale - 0.5 * aligned for c in box)
        rows = bin_weights(y1, y2, size[0], ratio, features.size(2), aligned)
        columns = bin_weights(x1, x2, size[1], ratio, features.size(3), aligned)
        pooled.append(rows.to(features) @ features[int(index)] @ columns.to(features).T)
    return torch.stack(pooled)


def compare(features, rois, size, scale, ratio, aligned, **tolerance):
    """Output and gradient against the reference's."""
    ours, theirs = (features.clone().requires_grad_() for _ in range(2))
    output = roi_align(ours, rois, size, scale, ratio, 'avg', aligned)
    expected = reference(theirs, rois, size, scale, ratio, aligned)
    torch.testing.assert_close(output, expected, **tolerance)
    grad = torch.randn(expected.shape, dtype=expected.dtype)
    output.backward(grad)
    expected.backward(grad)
    torch.testing.assert_close(ours.grad, theirs.grad, **tolerance)
    return output


def random_rois(count, images, height, width):
    """Boxes in and around the image, some wholly outside, some without area."""
    image = torch.randint(images, (count, 1)).double()
    centre = (torch.rand(count, 2).double() * 1.6 - 0.3) * torch.tensor([width, height])
    half = torch.rand(count, 2).double() * torch.tensor([width, height]) / 2
    half[::5] = 0
    return torch.cat([image, centre - half, centre + half], 1)


@pytest.mark.parametrize('aligned, ratio', SETTINGS)
@pytest.mark.parametrize('scale', [1.0, 0.25])
def test_random_boxes(aligned, ratio, scale):
    torch.manual_seed(0)
    features = torch.randn(2, 3, 9, 13, dtype=torch.float64)
    rois = random_rois(20, 2, 9 / scale, 13 / scale)
    compare(features, rois, (3, 2), scale, ratio, aligned, atol=1e-12, rtol=0)
    output = compare(features.float(), rois.float(), (3, 2), scale, ratio, aligned, atol=2e-5, rtol=0)
    assert output.dtype == torch.float32 and output.abs().max() > 0.1


# Quarters are exact in float32, so the number of samples and the border cases are the same on both sides.
quarter = st.integers(-16, 48).map(lambda i: i / 4)


@given(boxes=st.lists(st.tuples(*[quarter] * 4), min_size=1, max_size=4), setting=st.sampled_from(SETTINGS))
@settings(max_examples=60)
def test_any_boxes(boxes, setting):
    aligned, ratio = setting
    rois = torch.tensor([[0, x1, y1, x2, y2] for x1, y1, x2, y2 in boxes]).reshape(-1, 5)
    if aligned:
        rois[:, 1:] = rois[:, 1:].view(-1, 2, 2).sort(1).values.flatten(1)
    torch.manual_seed(0)
    compare(torch.randn(1, 2, 6, 8), rois, (2, 2), 1.0, ratio, aligned, atol=1e-5, rtol=0)


@pytest.mark.parametrize('aligned, ratio', SETTINGS)
def test_gradient_by_finite_differences(aligned, ratio):
    torch.manual_seed(0)
    features = torch.randn(1, 1, 4, 5, dtype=torch.float64, requires_grad=True)
    rois = random_rois(4, 1, 4, 5)
    pool = RoIAlign((2, 2), sampling_ratio=ratio, aligned=aligned)
    assert torch.autograd.gradcheck(lambda x: pool(x, rois), features)


def test_no_boxes():
    features = torch.randn(2, 3, 5, 5, requires_grad=True)
    output = RoIAlign(7)(features, torch.zeros(0, 5))
    assert output.shape == (0, 3, 7, 7)
    output.sum().backward()
    assert features.grad.shape == features.shape and not features.grad.any()


@pytest.mark.parametrize('box', [(3, 3, 1, 5), (3, 3, 5, 1), (math.nan, 0, 1, 1), (0, 0, math.inf, 1)])
def test_boxes_that_would_crash_torchvision_are_named(box):
    rois = torch.tensor([[0, 0, 0, 1, 1], [0, *box]])
    with pytest.raises(ValueError, match='box 1 is'):
        RoIAlign(2)(torch.randn(1, 1, 4, 4), rois)


def test_gradient_adds_to_what_is_there():
    grad_input, empty, rois = torch.ones(1, 1, 4, 4), torch.zeros(0), torch.tensor([[0, 0, 0, 4, 4.]])
    ext.roi_align_backward(torch.ones(1, 1, 2, 2), rois, empty, empty, grad_input, aligned_height=2,
                           aligned_width=2, spatial_scale=1.0, sampling_ratio=0, pool_mode=1, aligned=True)
    # Each bin is the mean of four cells.
    torch.testing.assert_close(grad_input, torch.full((1, 1, 4, 4), 1.25), atol=0, rtol=0)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('autocast', [True, False])
def test_half_precision_rounds_only_the_result(dtype, autocast):
    torch.manual_seed(0)
    features = torch.randn(1, 2, 9, 9).to(dtype).requires_grad_()
    single = features.detach().float().requires_grad_()
    rois = random_rois(6, 1, 9, 9).to(dtype)
    pool = RoIAlign((2, 2))
    with torch.autocast('cpu', dtype, enabled=autocast):
        output = pool(features, rois)
    expected = pool(single, rois.float())
    assert output.dtype == dtype
    torch.testing.assert_close(output, expected.to(dtype), atol=0, rtol=0)
    grad = torch.randn(expected.shape).to(dtype)
    output.backward(grad)
    expected.backward(grad.float())
    torch.testing.assert_close(features.grad, single.grad.to(dtype), atol=0, rtol=0)


def test_roi_extractor_of_mmdet():
    torch.manual_seed(0)
    strides = (4, 8, 16)
    extractor = SingleRoIExtractor(
        roi_layer=dict(type='RoIAlign', output_size=3, sampling_ratio=0), out_channels=2,
        featmap_strides=strides, finest_scale=20)
    levels = [torch.randn(2, 2, 96 // s, 128 // s, requires_grad=True) for s in strides]
    copies = [level.detach().clone().requires_grad_() for level in levels]
    rois = random_rois(40, 2, 96, 128).float()
    output = extractor(levels, rois)
    # Level l takes the boxes of finest_scale 2^l <= sqrt(area) < finest_scale 2^(l + 1).
    sizes = (rois[:, 3:] - rois[:, 1:3]).prod(1).sqrt()
    choice = (sizes / 20).log2().floor().clamp(0, 2).int()
    assert choice.unique().numel() == 3
    expected = torch.zeros(40, 2, 3, 3)
    for index, (copy, stride) in enumerate(zip(copies, strides)):
        expected[choice == index] = reference(copy, rois[choice == index], (3, 3), 1 / stride, 0, True)
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=0)
    grad = torch.randn(output.shape)
    output.backward(grad)
    expected.backward(grad)
    for level, copy in zip(levels, copies):
        torch.testing.assert_close(level.grad, copy.grad, atol=1e-5, rtol=0)
