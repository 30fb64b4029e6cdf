"""EfficientViT with token merging (LTM paper, sections 3.1 and 4.1).

In every block with attention the map is merged between attention and inverted bottleneck. Merging is linear, so
merging the attention's output and its shortcut is one product, G^T (X + attention(X)). Blocks of a stage merge
progressively; the stage's output is brought back to its nominal stride unless ``restore='none'``. What keeps no grid
merges around each of the bottleneck's pointwise convolutions, and all tokens come back before its depthwise one.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch.nn as nn
from mmengine.model import BaseModule
from torch import Tensor

from mmltm.merging import Host
from mmltm.merging.detour import Detour
from mmltm.merging.grids import map_to_tokens, tokens_to_map
from mmltm.models.mergers import build_mergers, merger_config
from mmltm.registry import MODELS

from .common import MergedMap, check_restore, run
from .efficientvit import EfficientViT


class LTMEfficientViTStage(BaseModule):
    """An ``EfficientViTStage`` with a merger for each block, or an identity where it merges nothing."""

    def __init__(self, stage: Any, mergers: nn.ModuleList, restore: str) -> None:
        super().__init__()
        self.downsample, self.blocks, self.with_cp = stage.downsample, stage.blocks, stage.with_cp
        self.mergers, self.restore = mergers, restore

    def forward(self, x: Tensor, carry: Any | None = None) -> tuple[Tensor, Any]:
        """Output of the stage, and what the last merger hands on to the next stage's first."""
        x, merged = run(self.downsample, x, self.with_cp), MergedMap(carry)
        block: Any
        for block, merger in zip(self.blocks, self.mergers):
            if isinstance(merger, nn.Identity):
                x = run(block, x, self.with_cp)
            elif isinstance(merger, Detour):
                x = run(block.context, x, self.with_cp)
                x = run(partial(_bottleneck, block.local, merger(x)[0]), x, self.with_cp)
            else:
                x = merged.merge(merger, run(block.context, x, self.with_cp))
                x = run(block.local, x, self.with_cp)
        return (x if self.restore == 'none' else merged.restore(x)), merged.carry


def _bottleneck(local: Any, operator: Any | None, x: Tensor) -> Tensor:
    """An ``MBConv`` with a shortcut whose pointwise convolutions see merged tokens, if there is an operator."""
    if operator is None:
        return local(x)

    def merged(layer: nn.Module, x: Tensor) -> Tensor:
        def pointwise(tokens: Tensor) -> Tensor:
            return map_to_tokens(layer(tokens_to_map(tokens, (tokens.shape[1], 1))))

        return tokens_to_map(operator.detour(map_to_tokens(x).contiguous(), pointwise), x.shape[-2:])

    return x + merged(local.point_conv, local.depth_conv(merged(local.inverted_conv, x)))


@MODELS.register_module()
class LTMEfficientViT(EfficientViT):
    """EfficientViT backbone with token merging in the blocks of stages 3 and 4.

    Args:
        *args, **kwargs: Of :class:`EfficientViT`.
        ratio, merger, preset, restore: See :class:`~mmltm.models.backbones.common.MergingBackbone`. B1 has three blocks
            in stage 3 and four in stage 4. ToMe and ToFu match the tokens of a window; EViT and LTMP are refused.
    """

    def __init__(self, *args, ratio: float | Sequence[float] | None = None, merger: dict | None = None,
                 preset: str | None = None, restore: str = 'stage', **kwargs) -> None:
        check_restore(restore)
        super().__init__(*args, **kwargs)
        settings = self.arch_settings[self.arch]
        mergers = build_mergers(
            merger_config(merger, ratio, preset, self.pretrained),
            Host(depths=[settings['depths'][stage] for stage in self.attention_stages],
                 embed_dims=[settings['channels'][stage] for stage in self.attention_stages],
                 sequences='layers', strides=[2 ** (stage + 1) for stage in self.attention_stages],
                 restores=restore == 'stage'))
        for index, stage_mergers in zip(self.attention_stages, mergers):
            if index <= len(self.stages):
                self.stages[index - 1] = LTMEfficientViTStage(self.stages[index - 1], stage_mergers, restore)
        self._freeze_stages()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of ``out_indices``, as :meth:`EfficientViT.forward`; smaller ones with ``restore='none'``."""
        outputs, carry = [self.stem(x)], None
        for stage in self.stages:
            if isinstance(stage, LTMEfficientViTStage):
                x, carry = stage(outputs[-1], carry)
            else:
                x = stage(outputs[-1])
            outputs.append(x)
        return tuple(outputs[index] for index in self.out_indices)
