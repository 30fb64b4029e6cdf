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
    """Weighted sums of values sampled at a few places of each feature level; levels follow one another in ``value``.

    Args:
        value (Tensor): (N, S, M, D), the cells of all levels, M heads.
        value_spatial_shapes (Tensor): (L, 2), height and width of each level.
        sampling_locations (Tensor): (N, Q, M, L, P, 2), (x, y), 0 to 1 within a level.
        attention_weights (Tensor): (N, Q, M, L, P).

    Returns:
        Tensor: (N, Q, M * D), of the type of ``value``.
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
