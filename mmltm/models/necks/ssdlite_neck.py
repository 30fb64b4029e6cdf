"""The levels of SSDLite on MobileViT.

Mehta and Rastegari, "MobileViT: Light-weight, General-purpose, and Mobile-friendly Vision Transformer", ICLR 2022,
section 4.2; channels and layers are those of the authors' library, ml-cvnets.
"""

from collections.abc import Sequence

import torch.nn as nn
from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from mmengine.model import BaseModule
from torch import Tensor

from mmltm.registry import MODELS


@MODELS.register_module()
class SSDLiteNeck(BaseModule):
    """Projections of the backbone's maps, then coarser maps, each of half the size of the one before, and their mean.

    Coarser maps begin with the backbone's last one as it is, not with its projection.

    Args:
        in_channels (Sequence[int]): Of the backbone's maps, from fine to coarse.
        out_channels (Sequence[int]): Of all levels; the last one is a single cell.
        norm_cfg, act_cfg (dict): Configs of normalisations and activations. Default to 'BN' and 'ReLU'.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: Sequence[int], norm_cfg: dict = dict(type='BN'),
                 act_cfg: dict = dict(type='ReLU'), init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        layer = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.projections = nn.ModuleList(
            ConvModule(*channels, 1, **layer) for channels in zip(in_channels, out_channels))
        *coarse, before, last = in_channels[-1], *out_channels[len(in_channels):]
        self.extra_layers = nn.ModuleList(
            DepthwiseSeparableConvModule(*channels, 3, stride=2, padding=1, dw_act_cfg=None, **layer)
            for channels in zip(coarse, [*coarse[1:], before]))
        self.pooled = ConvModule(before, last, 1, act_cfg=act_cfg)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Maps of all levels, (B, out_channels[l], H_l, W_l), of those of the backbone, (B, in_channels[l], H_l, W_l).
        """
        outputs, x = [project(x) for project, x in zip(self.projections, inputs)], inputs[-1]
        for layer in self.extra_layers:
            x = layer(x)
            outputs.append(x)
        return *outputs, self.pooled(x.mean((2, 3), keepdim=True))
