"""Mixed precision where there is no GPU: mmengine's ``AmpOptimWrapper`` refuses to run without one."""

from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.runner.amp import autocast
from torch import nn

from mmltm.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Runs forward passes under autocast to bfloat16, whose range is float32's, so that no loss needs scaling.

    Worth it for large matrix products on processors that know them (AVX512_BF16, AMX). Arguments are those of
    mmengine's ``OptimWrapper``.
    """

    @contextmanager
    def optim_context(self, model: nn.Module):
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield
