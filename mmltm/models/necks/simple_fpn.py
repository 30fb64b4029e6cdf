"""Simple feature pyramid of ViTDet.

Li, Mao, Girshick and He, "Exploring Plain Vision Transformer Backbones for Object Detection", ECCV 2022, arXiv
2203.16527, section 3. mmdet keeps one in a project that its package does not contain. Departure: halving rounds
up, so that no border is lost and no map vanishes.
"""

from collections.abc import Sequence

import torch.nn as nn
import torch.nn.functional as F
from mmcv.cnn import ConvModule, build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor

from mmltm.errors import UserError
from mmltm.registry import MODELS


@MODELS.register_module()
class SimpleFPN(BaseModule):
    """Four levels from the last map of a plain backbone, at 4, 2, 1 and 1/2 times its size, and coarser ones.

    Of a map of stride 16 the levels have strides 4, 8, 16, 32, then 64 and so on. There is no top-down pathway: each
    level is made from the map by itself.

    Args:
        in_channels (int): C, channels of the map; a multiple of 4.
        out_channels (int): Channels of every level. Defaults to 256.
        num_outs (int): Levels; those beyond the fourth are subsampled from it. Defaults to 5.
        norm_cfg (dict): Config of the normalisation. Defaults to layer normalisation over the channels.
        init_cfg (dict, optional): Initialisation config. Defaults to None.

    Raises:
        UserError: If ``in_channels`` is no multiple of 4 or ``num_outs`` is below 4.
    """

    def __init__(self, in_channels: int, out_channels: int = 256, num_outs: int = 5,
                 norm_cfg: dict = dict(type='mmpretrain.LN2d'), init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        if in_channels % 4:
            raise UserError(f'in_channels must be a multiple of 4, got {in_channels}')
        if num_outs < 4:
            raise UserError(f'num_outs must be at least 4, got {num_outs}')
        self.num_outs = num_outs
        half, quarter = in_channels // 2, in_channels // 4
        self.scales = nn.ModuleList([
            nn.Sequential(
                nn.ConvTranspose2d(in_channels, half, 2, stride=2), build_norm_layer(norm_cfg, half)[1], nn.GELU(),
                nn.ConvTranspose2d(half, quarter, 2, stride=2)),
            nn.ConvTranspose2d(in_channels, half, 2, stride=2),
            nn.Identity(),
            nn.MaxPool2d(2, ceil_mode=True),
        ])
        plain = dict(norm_cfg=norm_cfg, act_cfg=None, bias=False)
        self.convs = nn.ModuleList(
            nn.Sequential(
                ConvModule(channels, out_channels, 1, **plain),
                ConvModule(out_channels, out_channels, 3, padding=1, **plain))
            for channels in (quarter, half, in_channels, in_channels))

    def forward(self, x: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Levels from fine to coarse, (B, out_channels, h, w): 4 H x 4 W, 2 H x 2 W, H x W, half of it again and again.

        Of a map (B, C, H, W), or the last of several.
        """
        x = x if isinstance(x, Tensor) else x[-1]
        outs = [conv(scale(x)) for scale, conv in zip(self.scales, self.convs)]
        while len(outs) < self.num_outs:
            outs.append(F.max_pool2d(outs[-1], 1, stride=2))
        return tuple(outs)
