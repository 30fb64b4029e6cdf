"""The module that stands in for ``mmcv._ext``: operators under mmcv's names, with mmcv's argument lists.

Signatures and output tensors that are written in place are those of ``mmcv/ops/csrc/pytorch/pybind.cpp``. Not
supplied, among others, is ``roi_pool``: torchvision rounds the box to whole cells, mmcv does not.
"""

from collections.abc import Callable
from functools import partial

import torchvision

from mmltm.compat.common import unsupported
from mmltm.compat.deform_conv import (
    deform_conv_backward_input,
    deform_conv_backward_parameters,
    deform_conv_forward,
    modulated_deform_conv_backward,
    modulated_deform_conv_forward,
)
from mmltm.compat.focal_loss import (
    sigmoid_focal_loss_backward,
    sigmoid_focal_loss_forward,
    softmax_focal_loss_backward,
    softmax_focal_loss_forward,
)
from mmltm.compat.ms_deform_attn import ms_deform_attn_backward, ms_deform_attn_forward
from mmltm.compat.nms import nms, nms_match, softnms
from mmltm.compat.roi_align import roi_align_backward, roi_align_forward

__all__ = [
    'deform_conv_backward_input', 'deform_conv_backward_parameters', 'deform_conv_forward',
    'get_compiler_version', 'get_compiling_cuda_version', 'modulated_deform_conv_backward',
    'modulated_deform_conv_forward', 'ms_deform_attn_backward', 'ms_deform_attn_forward', 'nms', 'nms_match',
    'roi_align_backward', 'roi_align_forward', 'sigmoid_focal_loss_backward', 'sigmoid_focal_loss_forward',
    'softmax_focal_loss_backward', 'softmax_focal_loss_forward', 'softnms',
]


def get_compiler_version() -> str:
    """What environment reports (``mmcv.utils.collect_env``) print in place of mmcv's compilers."""
    return f'none (mmltm: operators of torchvision {torchvision.__version__})'


get_compiling_cuda_version = get_compiler_version


def __getattr__(name: str) -> Callable:
    """Any other operator: there, because mmcv checks that at import, but calling it raises."""
    # No operator starts with an underscore; what does is Python (or a tool) probing the module.
    if name.startswith('_'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return partial(unsupported, name)
