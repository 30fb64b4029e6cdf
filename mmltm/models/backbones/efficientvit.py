"""EfficientViT B0 to B3.

Cai, Li, Hu, Gan and Han, "EfficientViT: Multi-Scale Linear Attention for High-Resolution Dense Prediction",
ICCV 2023, arXiv 2205.14756. Weights of timm's ``efficientvit_b0`` to ``b3`` give the same logits (see
:mod:`mmltm.models.convert`).
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn as nn
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor

from mmltm.ib.precision import autocast_off
from mmltm.models.pretrained import StartsPretrained
from mmltm.registry import MODELS

from .common import check_frozen, check_indices, freeze, run


class DSConv(BaseModule):
    """Depthwise 3 x 3 and pointwise convolution, with a shortcut."""

    def __init__(self, channels: int, norm_cfg: dict, act_cfg: dict, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.depth_conv = ConvModule(
            channels, channels, 3, padding=1, groups=channels, norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.point_conv = ConvModule(channels, channels, 1, norm_cfg=norm_cfg, act_cfg=None)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.point_conv(self.depth_conv(x))


class MBConv(BaseModule):
    """Inverted bottleneck: pointwise, depthwise 3 x 3, pointwise.

    A shortcut is added where input and output agree in shape. ``expand_ratio`` are the hidden channels over
    ``in_channels``; ``fewer_norm`` leaves the first two normalisations out (and gives those convolutions a bias), as in
    the stages with attention.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expand_ratio: int, fewer_norm: bool,
                 norm_cfg: dict, act_cfg: dict, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        hidden = in_channels * expand_ratio
        inner = dict(norm_cfg=None if fewer_norm else norm_cfg, act_cfg=act_cfg)
        self.inverted_conv = ConvModule(in_channels, hidden, 1, **inner)
        self.depth_conv = ConvModule(hidden, hidden, 3, stride=stride, padding=1, groups=hidden, **inner)
        self.point_conv = ConvModule(hidden, out_channels, 1, norm_cfg=norm_cfg, act_cfg=None)
        self.shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        out = self.point_conv(self.depth_conv(self.inverted_conv(x)))
        return x + out if self.shortcut else out


class MultiScaleLinearAttention(BaseModule):
    """ReLU linear attention over tokens and over tokens aggregated from their neighbourhood, with a shortcut.

    Paper, section 3.1. The attention itself is computed in float32 under automatic mixed precision too: the sums
    over all tokens overflow float16, whose NaNs then reach every token.

    ``head_dim`` are the channels of a head, ``scales`` the kernel sizes of the aggregations; ``eps`` is added to the
    normaliser of the attention weights.
    """

    def __init__(self, channels: int, head_dim: int, norm_cfg: dict, scales: Sequence[int] = (5, ), eps: float = 1e-5,
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        num_heads = channels // head_dim
        width = num_heads * head_dim
        self.head_dim, self.eps = head_dim, eps
        self.qkv = nn.Conv2d(channels, 3 * width, 1, bias=False)
        self.aggregations = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(3 * width, 3 * width, scale, padding=scale // 2, groups=3 * width, bias=False),
                nn.Conv2d(3 * width, 3 * width, 1, groups=3 * num_heads, bias=False)) for scale in scales)
        self.proj = ConvModule(width * (1 + len(scales)), channels, 1, norm_cfg=norm_cfg, act_cfg=None)

    @staticmethod
    def aggregate(qkv: Tensor, depthwise: Any, pointwise: Any) -> Tensor:
        """Tokens of a neighbourhood. The grouped pointwise convolution is computed as a batched matrix product, since
        on a CPU torch computes it group by group."""
        x = depthwise(qkv)
        groups = pointwise.groups
        weight = pointwise.weight.reshape(groups, -1, pointwise.weight.shape[1])
        return (weight @ x.reshape(x.shape[0], groups, weight.shape[2], -1)).reshape(qkv.shape)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Linear attention, (B, heads, head_dim, N) each: the N x N matrix is never formed."""
        with autocast_off(q):
            q, k, v = q.relu().float(), k.relu().float(), v.float()
            total = (v @ k.transpose(-2, -1)) @ q
            weight = k.sum(-1, keepdim=True).transpose(-2, -1) @ q
            return total / (weight + self.eps)

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        qkv = self.qkv(x)
        qkv = torch.cat([qkv, *(self.aggregate(qkv, *layers.children()) for layers in self.aggregations)], 1)
        # Channels run (scale, head, q k v, head_dim).
        q, k, v = qkv.reshape(batch, -1, 3 * self.head_dim, height * width).chunk(3, dim=2)
        out = self.attend(q, k, v).to(qkv.dtype)
        return x + self.proj(out.reshape(batch, -1, height, width))


class EfficientViTBlock(BaseModule):
    """Attention over the whole map, then an inverted bottleneck for what is local."""

    def __init__(self, channels: int, head_dim: int, expand_ratio: int, norm_cfg: dict, act_cfg: dict,
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.context = MultiScaleLinearAttention(channels, head_dim, norm_cfg)
        self.local = MBConv(channels, channels, 1, expand_ratio, True, norm_cfg, act_cfg)

    def forward(self, x: Tensor) -> Tensor:
        return self.local(self.context(x))


class EfficientViTStage(BaseModule):
    """A strided inverted bottleneck, then ``depth`` blocks; ``blocks`` need not be of one kind."""

    def __init__(self, downsample: nn.Module, blocks: Sequence[nn.Module], with_cp: bool,
                 init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.downsample = downsample
        self.blocks = nn.ModuleList(blocks)
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> Tensor:
        x = run(self.downsample, x, self.with_cp)
        for block in self.blocks:
            x = run(block, x, self.with_cp)
        return x


@MODELS.register_module()
class EfficientViT(StartsPretrained):
    """EfficientViT backbone, for inputs of any size from 32 pixels on.

    Args:
        arch (str): 'b0', 'b1', 'b2' or 'b3'. Defaults to 'b1'.
        in_channels (int): Channels of the image. Defaults to 3.
        out_indices (Sequence[int]): Stages to return, 0 (stem, stride 2) to 4 (stride 32), negative ones counted
            from the end. Stages behind the last of them are not built. Defaults to (4, ).
        frozen_stages (int): Stem (0) and stages up to this one are frozen, from construction on. Defaults to -1, none.
        norm_eval (bool, optional): Keep all normalisation layers in evaluation mode; None: if there is a
            ``pretrained``, as few images a batch ask for. Defaults to False.
        with_cp (bool): Recompute activations in the backward pass to save memory. Defaults to False.
        norm_cfg, act_cfg (dict): Configs of normalisations and activations. Default to 'BN' and 'HSwish'.
        pretrained (str, optional): Classifier to start from, see :class:`~mmltm.models.pretrained.StartsPretrained`.
        init_cfg (dict, optional): Initialisation; a checkpoint with ``dict(type='Pretrained', ...)``.

    Raises:
        ValueError: For an unknown ``arch``, or ``out_indices`` or ``frozen_stages`` out of range.
    """

    #: Channels and depths of the stem and the four stages, and channels of an attention head.
    arch_settings: dict[str, dict[str, Any]] = dict(
        b0=dict(channels=(8, 16, 32, 64, 128), depths=(1, 2, 2, 2, 2), head_dim=16),
        b1=dict(channels=(16, 32, 64, 128, 256), depths=(1, 2, 3, 3, 4), head_dim=16),
        b2=dict(channels=(24, 48, 96, 192, 384), depths=(1, 3, 4, 4, 6), head_dim=32),
        b3=dict(channels=(32, 64, 128, 256, 512), depths=(1, 4, 6, 6, 9), head_dim=32),
    )
    num_stages = 4
    #: Stages whose blocks hold attention.
    attention_stages = (3, 4)
    expand_ratio = 4

    def __init__(self, arch: str = 'b1', in_channels: int = 3, out_indices: int | Sequence[int] = (4, ),
                 frozen_stages: int = -1, norm_eval: bool | None = False, with_cp: bool = False,
                 norm_cfg: dict = dict(type='BN'), act_cfg: dict = dict(type='HSwish'), pretrained: str | None = None,
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        self.pretrained = pretrained
        if arch not in self.arch_settings:
            raise ValueError(f'arch must be one of {tuple(self.arch_settings)}, got {arch!r}')
        self.arch = arch
        self.out_indices = check_indices(out_indices, self.num_stages + 1)
        self.frozen_stages = check_frozen(frozen_stages, self.num_stages)
        self.norm_eval = pretrained is not None if norm_eval is None else norm_eval
        self.with_cp, self.norm_cfg, self.act_cfg = with_cp, norm_cfg, act_cfg

        settings = self.arch_settings[arch]
        channels, depths = settings['channels'], settings['depths']
        self.stem = nn.Sequential(
            ConvModule(in_channels, channels[0], 3, stride=2, padding=1, norm_cfg=norm_cfg, act_cfg=act_cfg),
            *(DSConv(channels[0], norm_cfg, act_cfg) for _ in range(depths[0])))
        self.stages = nn.ModuleList(
            self._make_stage(stage, channels[stage - 1], channels[stage], depths[stage], settings['head_dim'])
            for stage in range(1, max(self.out_indices) + 1))
        self._freeze_stages()

    def _make_stage(self, stage: int, in_channels: int, channels: int, depth: int,
                    head_dim: int) -> EfficientViTStage:
        """Build stage 1 to 4; attention stages have ``depth`` blocks behind the strided one, others one fewer."""
        attention = stage in self.attention_stages
        layers = dict(norm_cfg=self.norm_cfg, act_cfg=self.act_cfg)
        downsample = MBConv(in_channels, channels, 2, self.expand_ratio, attention, **layers)
        if attention:
            blocks: list[nn.Module] = [
                EfficientViTBlock(channels, head_dim, self.expand_ratio, **layers) for _ in range(depth)]
        else:
            blocks = [MBConv(channels, channels, 1, self.expand_ratio, False, **layers) for _ in range(depth - 1)]
        return EfficientViTStage(downsample, blocks, self.with_cp)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Maps of ``out_indices``, in that order, (B, channels[s], ceil(H / 2^(s+1)), ceil(W / 2^(s+1))) of stage s."""
        outputs = [self.stem(x)]
        for stage in self.stages:
            outputs.append(stage(outputs[-1]))
        return tuple(outputs[index] for index in self.out_indices)

    def _freeze_stages(self) -> None:
        freeze([self.stem, *self.stages][:self.frozen_stages + 1])

    def train(self, mode: bool = True) -> 'EfficientViT':
        super().train(mode)
        self._freeze_stages()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self
