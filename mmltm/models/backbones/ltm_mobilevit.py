"""MobileViT with token merging (LTM paper, sections 3.1 and 4.1), on mmpretrain's ``MobileViT``.

The tokens of a stage are its patches, in as many groups as a patch has pixels; the groups share a block's
mask, and for its statistics a token is a patch, the pixels of which are concatenated. A block merges between
attention and MLP and hands fewer tokens to the next. ``restore='none'`` is the paper's form for
classification: the smaller map flows on and the stage's shortcut undergoes the same merges.

To mergers that keep no grid every group is a sequence of its own. The convolutions behind a stage need its grid, so at
its end all tokens come back, whatever ``restore`` says.

Departures from mmpretrain's class, beside merging: ``norm_cfg``, ``conv_cfg`` and ``act_cfg`` reach the inner
blocks; what ``out_indices`` do not ask for is not built; ``frozen_stages`` freezes the stem too; ``with_cp``.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from mmpretrain.models.backbones import MobileViT
from mmpretrain.models.backbones.mobilenet_v2 import InvertedResidual
from mmpretrain.models.backbones.mobilevit import MobileVitBlock
from torch import Tensor

from mmltm.merging import Host
from mmltm.merging.grids import Grid, as_grid, map_to_tokens, tokens_to_map
from mmltm.merging.sequences import History, SequenceMerger
from mmltm.models.mergers import build_mergers, merger_config
from mmltm.registry import MODELS

from .common import (
    MergedMap,
    MergingBackbone,
    attend,
    check_arch,
    check_frozen,
    check_indices,
    check_restore,
    encode_sequence,
    feed_forward,
    freeze,
    run,
)


class LTMMobileVitBlock(MobileVitBlock):
    """A MobileViT block with a merger for each encoder layer, or an identity where it merges nothing."""

    def __init__(self, *, restore: str, with_cp: bool, **kwargs) -> None:
        super().__init__(**kwargs)
        self.restore, self.with_cp = restore, with_cp
        self.mergers = nn.ModuleList(nn.Identity() for _ in self.global_rep[:-1])

    def forward(self, x: Tensor, carry: Any | None = None) -> tuple[Tensor, Any]:
        """A map, (B, out_channels, H, W), smaller with ``restore='none'``, and what goes to the next stage."""
        shortcut: Tensor = x
        size = as_grid(x.shape[-2:])
        tokens, grid = self.unfold(run(self.local_rep, x, self.with_cp))
        if any(isinstance(merger, SequenceMerger) for merger in self.mergers):
            tokens = self.encode_sequences(tokens, grid)
        else:
            tokens, grid, operators, carry = self.encode_maps(tokens, grid, carry)
            if operators:
                shortcut, size = self.merge_shortcut(shortcut, operators)
        x = self.fold(self.global_rep[-1](tokens), grid, size)
        return run(partial(self.fuse, shortcut), x, self.with_cp), carry

    def encode_sequences(self, tokens: Tensor, grid: Grid) -> Tensor:
        """The encoder layers on tokens, (B A, N, C), that mergers leave without a grid; all of them come back."""
        history = History.whole(tokens)
        for layer, merger in zip(self.global_rep, self.mergers):
            tokens, history, grid = encode_sequence(layer, merger, tokens, history, grid, False, self.with_cp)
        return history.restore(tokens)

    def encode_maps(self, tokens: Tensor, grid: Grid, carry: Any) -> tuple[Tensor, Grid, Sequence[Any], Any]:
        """Tokens that mergers leave on a grid, this, the operators of merges that are not undone, and the carry."""
        merged = MergedMap(carry)
        for layer, merger in zip(self.global_rep, self.mergers):
            tokens = run(partial(attend, layer), tokens, self.with_cp)
            x = merged.merge(merger, tokens_to_map(tokens, grid), self.patch_area)
            tokens, grid = map_to_tokens(x), as_grid(x.shape[-2:])
            tokens = run(partial(feed_forward, layer), tokens, self.with_cp)
        if not merged.merges or self.restore == 'none':
            return tokens, grid, [operator for operator, _, _ in merged.merges], merged.carry
        full = merged.restore(tokens_to_map(tokens, grid))
        return map_to_tokens(full), as_grid(full.shape[-2:]), [], merged.carry

    def fuse(self, shortcut: Tensor, x: Tensor) -> Tensor:
        x = self.conv_proj(x)
        return x if self.conv_fusion is None else self.conv_fusion(torch.cat((shortcut, x), dim=1))

    def merge_shortcut(self, shortcut: Tensor, operators: Sequence[Any]) -> tuple[Tensor, Grid]:
        """The shortcut and its size after all merges of the stage."""
        tokens, grid = self.unfold(shortcut)
        merged = tokens_to_map(tokens, grid)
        for operator in operators:
            merged = operator.merge(merged)
        grid = as_grid(merged.shape[-2:])
        size = (grid[0] * self.patch_size[0], grid[1] * self.patch_size[1])
        return self.fold(map_to_tokens(merged), grid, size), size

    def unfold(self, x: Tensor) -> tuple[Tensor, Grid]:
        """Tokens of a map, (B, C, H, W) to (B A, N, C), A pixels a patch, and the grid of its N patches.

        A map that patches do not fill is resized until they do.
        """
        batch, channels, size = x.shape[0], x.shape[1], as_grid(x.shape[-2:])
        patch_h, patch_w = self.patch_size
        h, w = (-(-side // patch) for side, patch in zip(size, self.patch_size))
        if (h * patch_h, w * patch_w) != size:
            x = F.interpolate(x, size=(h * patch_h, w * patch_w), mode='bilinear', align_corners=False)
        x = x.reshape(batch, channels, h, patch_h, w, patch_w).permute(0, 3, 5, 2, 4, 1)
        return x.reshape(batch * self.patch_area, h * w, channels), (h, w)

    def fold(self, tokens: Tensor, grid: Grid, size: Grid) -> Tensor:
        """The way back from :meth:`unfold`, to a map of ``size``."""
        (h, w), (patch_h, patch_w), channels = grid, self.patch_size, tokens.shape[-1]
        x = tokens.reshape(-1, patch_h, patch_w, h, w, channels).permute(0, 5, 3, 1, 4, 2)
        x = x.reshape(-1, channels, h * patch_h, w * patch_w)
        if (h * patch_h, w * patch_w) != size:
            x = F.interpolate(x, size=size, mode='bilinear', align_corners=False)
        return x


@MODELS.register_module()
class LTMMobileViT(MergingBackbone, MobileViT):
    """MobileViT backbone with token merging in its last three stages, for inputs of any size.

    Args:
        arch (str or list): 'xx_small', 'x_small', 'small', or the layers as mmpretrain's class takes them.
            Defaults to 'small'.
        ratio, merger, preset, restore, out_indices, frozen_stages, with_cp, pretrained: See
            :class:`~mmltm.models.backbones.common.MergingBackbone`. The stages have two, four and three blocks. EViT,
            which needs a class token, is refused. ``frozen_stages`` 0 is the stem, k the stem and the first k stages.
        last_exp_factor (int, optional): Channels of the last stage's map over those of its block, by a convolution;
            None: without it. Defaults to 4.
        conv_cfg, norm_cfg, act_cfg (dict): Of all convolutions. Default to mmpretrain's.
        **kwargs: Other arguments of mmpretrain's ``MobileViT``.
    """
    layers: Any
    conv_1x1_exp: Any

    def __init__(self, arch: str | list[list] = 'small', *, ratio: float | Sequence[float] | None = None,
                 merger: dict | None = None, preset: str | None = None, restore: str = 'stage',
                 out_indices: int | Sequence[int] = (4, ), frozen_stages: int = -1, with_cp: bool = False,
                 pretrained: str | None = None, last_exp_factor: int | None = 4, conv_cfg: dict | None = None,
                 norm_cfg: dict = dict(type='BN'), act_cfg: dict = dict(type='Swish'), **kwargs) -> None:
        arch = check_arch(arch, self.arch_settings, 'list')
        out_indices = check_indices(out_indices, len(arch))
        # The parent's constructor calls the methods below that make the layers and need these.
        self.restore, self.with_cp = check_restore(restore), with_cp
        self._layer_cfgs = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
        frozen_stages = check_frozen(frozen_stages, len(arch))
        super().__init__(arch, out_indices=out_indices, last_exp_factor=last_exp_factor or 1, **self._layer_cfgs,
                         **kwargs)
        self.frozen_stages = frozen_stages
        self.pretrained = pretrained
        merging = [index for index, layer in enumerate(self.layers) if isinstance(layer[-1], LTMMobileVitBlock)]
        blocks = [self.layers[index][-1] for index in merging]
        mergers = build_mergers(
            merger_config(merger, ratio, preset, pretrained),
            Host(depths=[len(block.mergers) for block in blocks],
                 embed_dims=[block.patch_area * block.conv_proj.in_channels for block in blocks],
                 strides=[block.patch_size[0] * 2 * math.prod(row[2] for row in arch[:index + 1])
                          for index, block in zip(merging, blocks)],
                 restores=restore == 'stage',
                 groups=blocks[0].patch_area if blocks else 1,
                 sequences='tokens',
                 mlp_ratios=[block.global_rep[0].ffn.feedforward_channels / block.conv_proj.in_channels
                             for block in blocks]))
        for block, block_mergers in zip(blocks, mergers):
            block.mergers = block_mergers
        self.layers = self.layers[:max(out_indices) + 1]
        if len(self.layers) < self.num_stages or last_exp_factor is None:
            self.conv_1x1_exp = None
        self._freeze_stages()

    def make_mobilevit_layer(self, in_channels: int, out_channels: int, stride: int, transformer_dim: int, ffn_dim: int,
                             num_transformer_blocks: int, expand_ratio: int = 4) -> tuple[nn.Sequential, int]:
        """An inverted residual and a MobileViT block; arguments as the parent's."""
        reduce = InvertedResidual(in_channels, out_channels, stride, expand_ratio, **self._layer_cfgs)
        block = LTMMobileVitBlock(
            restore=self.restore, with_cp=self.with_cp, in_channels=out_channels, transformer_dim=transformer_dim,
            ffn_dim=ffn_dim, out_channels=out_channels, num_transformer_blocks=num_transformer_blocks,
            **self._layer_cfgs)
        return nn.Sequential(reduce, block), out_channels

    def make_mobilenetv2_layer(self, in_channels: int, out_channels: int, stride: int, num_blocks: int,
                               expand_ratio: int = 4) -> tuple[nn.Sequential, int]:
        """Inverted residuals; arguments as the parent's."""
        sides = [(in_channels, stride)] + [(out_channels, 1)] * (num_blocks - 1)
        return nn.Sequential(*(InvertedResidual(channels, out_channels, step, expand_ratio, **self._layer_cfgs)
                               for channels, step in sides)), out_channels

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Maps of ``out_indices``, in ascending order, at strides 2, 4, 8, 16, 32, or smaller with ``restore='none'``.
"""
        x, outputs, carry = self.stem(x), [], None
        for index, layer in enumerate(self.layers):
            if isinstance(layer[-1], LTMMobileVitBlock):
                x, carry = layer[-1](run(layer[0], x, self.with_cp), carry)
            else:
                x = run(layer, x, self.with_cp)
            if index == self.num_stages - 1 and self.conv_1x1_exp is not None:
                x = self.conv_1x1_exp(x)
            if index in self.out_indices:
                outputs.append(x)
        return tuple(outputs)

    def _freeze_stages(self) -> None:
        if self.frozen_stages >= 0:
            freeze([self.stem, *self.layers[:self.frozen_stages]])
        if self.frozen_stages == self.num_stages and self.conv_1x1_exp is not None:
            freeze([self.conv_1x1_exp])
