import itertools
import math

import torch
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction

SHAPES = torch.tensor([[3, 4], [2, 1]])
STARTS = torch.tensor([0, 12])


def reference(value, locations, weights):
    """Eq. 3 of arXiv 2010.04159 without its projections, sample by sample."""
    batch, _, heads, width = value.shape
    queries, levels, points = locations.size(1), locations.size(3), locations.size(4)
    out = []
    for n, q, m in itertools.product(range(batch), range(queries), range(heads)):
        total = value.new_zeros(width)
        for level, p in itertools.product(range(levels), range(points)):
            height, length = SHAPES[level].tolist()
            x, y = locations[n, q, m, level, p]
            # Cell (i, j) has its centre at (i + 0.5, j + 0.5).
            y, x = y * height - 0.5, x * length - 0.5
            top, left = math.floor(y.item()), math.floor(x.item())
            for row, column in itertools.product((top, top + 1), (left, left + 1)):
                if 0 <= row < height and 0 <= column < length:
                    share = (1 - abs(y - row)) * (1 - abs(x - column)) * weights[n, q, m, level, p]
                    total = total + share * value[n, int(STARTS[level]) + row * length + column, m]
        out.append(total)
    return torch.stack(out).view(batch, queries, heads * width)


def inputs(dtype):
    torch.manual_seed(0)
    value = torch.randn(2, 14, 2, 3, dtype=dtype)
    # Some places lie outside.
    locations = torch.rand(2, 5, 2, 2, 2, 2, dtype=dtype) * 1.4 - 0.2
    weights = torch.rand(2, 5, 2, 2, 2, dtype=dtype)
    return [tensor.requires_grad_() for tensor in (value, locations, weights)]


def attend(value, locations, weights):
    # mmcv's layer goes this way only on a GPU; the function itself works everywhere.
    return MultiScaleDeformableAttnFunction.apply(value, SHAPES, STARTS, locations, weights, 64)


def test_attention_and_gradients():
    ours, theirs = inputs(torch.float64), inputs(torch.float64)
    output, expected = attend(*ours), reference(*theirs)
    torch.testing.assert_close(output, expected, atol=1e-12, rtol=0)
    grad = torch.randn_like(expected)
    output.backward(grad)
    expected.backward(grad)
    for mine, other in zip(ours, theirs):
        torch.testing.assert_close(mine.grad, other.grad, atol=1e-12, rtol=0)


def test_half_precision_values():
    value, locations, weights = inputs(torch.float32)
    output = attend(value.half(), locations, weights)
    assert output.dtype == torch.float16
    torch.testing.assert_close(output.float(), attend(value, locations, weights), atol=1e-2, rtol=1e-2)
    output.float().sum().backward()
    assert all(tensor.grad.isfinite().all() and tensor.grad.any() for tensor in (value, locations, weights))
