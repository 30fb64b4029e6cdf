"""Strided convolutions in place of the one that cuts an image into patches.

Small data sets are where a transformer needs them: with the same blocks behind, it trains faster and to a higher
accuracy (Xiao et al., "Early Convolutions Help Transformers See Better", NeurIPS 2021, arXiv 2106.14881, section 3).
"""

from collections.abc import Sequence
from typing import Any

import torch.nn as nn

from mmltm.registry import MODELS


@MODELS.register_module()
class ConvStem(nn.Sequential):
    """Maps of ``stride`` times smaller sides by 3 x 3 convolutions of stride 2, then a 1 x 1 convolution.

    Channels double with each, up to ``out_channels``; a batch norm and a ReLU follow all but the last. A layer in the
    place of the patch embedding's: ``patch_cfg=dict(conv_type='mmltm.ConvStem')`` of mmpretrain's transformers.

    ``stride`` is the side of a patch, a power of two from 2 on; ``out_channels`` are a multiple of half of it, and
    ``bias`` is of the last convolution. Further arguments, of the convolution whose place this takes, have no effect.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any = None, stride: int | Sequence[int] = 16,
                 padding: Any = 0, dilation: Any = 1, bias: bool = True) -> None:
        stride = stride if isinstance(stride, int) else stride[0]
        if stride < 2 or stride & (stride - 1):
            raise ValueError(f'stride must be a power of two from 2 on, got {stride}')
        if out_channels % (stride // 2):
            raise ValueError(f'out_channels must be a multiple of {stride // 2} for stride {stride}, '
                             f'got {out_channels}')
        layers: list[nn.Module] = []
        whole = stride
        while stride > 1:
            stride //= 2
            channels = out_channels // stride
            layers += [nn.Conv2d(in_channels, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(True)]
            in_channels = channels
        super().__init__(*layers, nn.Conv2d(in_channels, out_channels, 1, bias=bias))
        self.stride = (whole, whole)
