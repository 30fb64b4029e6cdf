"""Multi-scale deformable attention (Zhu et al., arXiv 2010.04159) by mmcv's own PyTorch function.

mmcv takes that path by itself on CPU; this one serves other devices, where mmcv calls its kernel.
"""

from torch import Tensor
from torch.autograd.functional import vjp

from .common import promote


def _attend(spatial_shapes: Tensor, value: Tensor, sampling_locations: Tensor, attention_weights: Tensor) -> Tensor:
    # mmcv.ops imports this package while it is being imported itself.
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch
    return multi_scale_deformable_attn_pytorch(value, spatial_shapes, sampling_locations, attention_weights)


def ms_deform_attn_forward(value: Tensor, value_spatial_shapes: Tensor, value_level_start_index: Tensor,
                           sampling_locations: Tensor, attention_weights: Tensor, im2col_step: int) -> Tensor:
    """Weighted sums (N, Q, M * D) of values sampled at a few places of each of L feature levels.

    ``value`` (N, S, M, D) has the cells of all levels, one of ``value_spatial_shapes`` (L, 2) after the other, for
    M heads. ``sampling_locations`` (N, Q, M, L, P, 2) are (x, y), 0 to 1 within a level, and ``attention_weights``
    (N, Q, M, L, P).
    """
    inputs = promote(value, sampling_locations, attention_weights)
    return _attend(value_spatial_shapes, *inputs).to(value.dtype)


def ms_deform_attn_backward(value: Tensor, value_spatial_shapes: Tensor, value_level_start_index: Tensor,
                            sampling_locations: Tensor, attention_weights: Tensor, grad_output: Tensor,
                            grad_value: Tensor, grad_sampling_loc: Tensor, grad_attn_weight: Tensor,
                            im2col_step: int) -> None:
    """Gradients of :func:`ms_deform_attn_forward`, added to the last three tensors."""
    *inputs, grad_output = promote(value, sampling_locations, attention_weights, grad_output)
    grads = vjp(lambda *x: _attend(value_spatial_shapes, *x), tuple(inputs), grad_output)[1]
    for total, grad in zip((grad_value, grad_sampling_loc, grad_attn_weight), grads):
        total += grad
