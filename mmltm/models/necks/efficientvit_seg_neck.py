"""What fuses the maps in EfficientViT-Seg (Cai et al., arXiv 2205.14756; figures of mit-han-lab/efficientvit)."""

from collections.abc import Sequence

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmltm.models.backbones.efficientvit import MBConv
from mmltm.registry import MODELS


@MODELS.register_module()
class EfficientViTSegNeck(BaseModule):
    """The head of EfficientViT-Seg up to its classifier: maps of one width, summed at the finest stride, and MBConvs.

    Maps are projected by a pointwise convolution without activation and enlarged bicubically. The classifier is mmseg's
    ``FCNHead(num_convs=0, concat_input=False)``; for Cityscapes the paper's models have a wider pointwise convolution
    in front of it: ``num_convs=1, kernel_size=1, channels=4 * width``.

    Args:
        in_channels (Sequence[int]): Channels of the maps, the finest first (B1 from stride 8: 64, 128, 256).
        width (int): Channels of all maps within. B0: 32, B1: 64, B2: 96, B3: 128. Defaults to 64.
        depth (int): Number of MBConvs, with shortcuts. B0: 1, others: 3. Defaults to 3.
        expand_ratio (int): Of the MBConvs. Defaults to 4.
        norm_cfg, act_cfg (dict): Configs of normalisations and activations. Default to 'BN' and 'HSwish'.
    """

    def __init__(self, in_channels: Sequence[int], width: int = 64, depth: int = 3, expand_ratio: int = 4,
                 norm_cfg: dict = dict(type='BN'), act_cfg: dict = dict(type='HSwish'),
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.projections = nn.ModuleList(
            ConvModule(channels, width, 1, norm_cfg=norm_cfg, act_cfg=None) for channels in in_channels)
        self.blocks = nn.Sequential(*(
            MBConv(width, width, 1, expand_ratio, False, norm_cfg, act_cfg) for _ in range(depth)))

    def forward(self, feats: tuple[Tensor, ...]) -> tuple[Tensor]:
        """One map, (B, width, H, W) of the first of ``feats``, from as many as there are ``in_channels``."""
        if len(feats) != len(self.projections):
            raise ValueError(f'in_channels are of {len(self.projections)} maps, but the backbone gives {len(feats)}')
        maps = [projection(x) for projection, x in zip(self.projections, feats)]
        size = maps[0].shape[-2:]
        fused = maps[0] + sum(F.interpolate(x, size=size, mode='bicubic', align_corners=False) for x in maps[1:])
        return (self.blocks(fused), )
