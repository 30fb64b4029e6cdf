"""The module that stands in for ``mmcv._ext``: operators under mmcv's names, with mmcv's argument lists.

Signatures and output tensors that are written in place are those of ``mmcv/ops/csrc/pytorch/pybind.cpp``. Not
supplied, among others, is ``roi_pool``: torchvision rounds the box to whole cells, mmcv does not.
"""

from collections.abc import Callable
from functools import partial

import torchvision

from mmltm.compat import deform_conv, focal_loss, ms_deform_attn, nms, roi_align
from mmltm.compat.common import unsupported

# Every public function of these modules is an operator.
_OPERATORS = {name: value for module in (deform_conv, focal_loss, ms_deform_attn, nms, roi_align)
              for name, value in vars(module).items()
              if getattr(value, '__module__', None) == module.__name__ and not name.startswith('_')}
globals().update(_OPERATORS)
__all__ = ['get_compiler_version', 'get_compiling_cuda_version', *_OPERATORS]


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
