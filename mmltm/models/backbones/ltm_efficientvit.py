"""EfficientViT with token merging (LTM paper, sections 3.1 and 4.1).

In every block with attention the map is merged between attention and inverted bottleneck. Merging is linear, so
merging the attention's output and its shortcut is one product, G^T (X + attention(X)). Blocks of a stage merge
progressively; the stage's output is brought back to its nominal stride unless ``restore='none'``.
"""

from collections.abc import Sequence
from typing import Any

import torch.nn as nn
from torch import Tensor

from mmltm.merging import Host
from mmltm.models.mergers import build_mergers, merger_config
from mmltm.registry import MODELS

from .common import MergedMap, check_restore, run
from .efficientvit import EfficientViT, EfficientViTStage


class LTMEfficientViTStage(EfficientViTStage):
    """A stage whose every block hands fewer tokens on.

    Args:
        mergers (nn.ModuleList): A merger for each block, or an identity where it merges nothing.
        restore (str): See :class:`LTMEfficientViT`.
    """

    def __init__(self, downsample: nn.Module, blocks: Sequence[nn.Module], with_cp: bool, mergers: nn.ModuleList,
                 restore: str) -> None:
        super().__init__(downsample, blocks, with_cp)
        self.mergers = mergers
        self.restore = restore

    def forward(self, x: Tensor, carry: Any | None = None) -> tuple[Tensor, Any]:
        """Output of the stage, and what the last merger hands on to the next stage's first."""
        x, merged = run(self.downsample, x, self.with_cp), MergedMap(carry)
        for block, merger in zip(self.blocks, self.mergers):
            if isinstance(merger, nn.Identity):
                x = run(block, x, self.with_cp)
            else:
                x = merged.merge(merger, run(block.context, x, self.with_cp))
                x = run(block.local, x, self.with_cp)
        return (x if self.restore == 'none' else merged.restore(x)), merged.carry


@MODELS.register_module()
class LTMEfficientViT(EfficientViT):
    """EfficientViT backbone with token merging in the blocks of stages 3 and 4.

    Without ``ratio`` and ``merger``, or at ratio 1.0, it is the vanilla backbone, bit for bit; otherwise the
    merging parameters alone are missing from a vanilla checkpoint.

    Args:
        ratio (float or Sequence[float], optional): Share of tokens that each block keeps, in (0, 1], or one value
            a block (B1: three in stage 3, four in stage 4). Short for ``merger=dict(type='LTM', ratio=ratio)``.
        merger (dict, optional): Config of the merger, see :func:`mmltm.models.mergers.build_mergers`. Those that keep
            no grid are refused, for a convolution follows.
        preset (str, optional): 'paper': the merger's defaults are those of the LTM paper, see
            :func:`mmltm.models.mergers.merger_config`. Defaults to None.
        restore (str): 'stage' returns every stage to its nominal stride, as dense prediction needs: its tokens and
            what the merged ones have gained; 'none' lets the smaller map flow on and out. Defaults to 'stage'.
        **kwargs: Arguments of :class:`EfficientViT`.

    Raises:
        ValueError: For a ratio outside (0, 1], a list of another length than there are blocks, or arguments that
            :class:`EfficientViT` refuses.
    """

    def __init__(self,
                 *args,
                 ratio: float | Sequence[float] | None = None,
                 merger: dict | None = None,
                 preset: str | None = None,
                 restore: str = 'stage',
                 **kwargs) -> None:
        check_restore(restore)
        super().__init__(*args, **kwargs)
        settings = self.arch_settings[self.arch]
        mergers = build_mergers(
            merger_config(merger, ratio, preset, self.pretrained),
            Host(depths=[settings['depths'][stage] for stage in self.attention_stages],
                 embed_dims=[settings['channels'][stage] for stage in self.attention_stages],
                 strides=[2 ** (stage + 1) for stage in self.attention_stages],
                 restores=restore == 'stage'))
        for index, stage_mergers in zip(self.attention_stages, mergers):
            if index <= len(self.stages):
                stage = self.stages[index - 1]
                self.stages[index - 1] = LTMEfficientViTStage(
                    stage.downsample, stage.blocks, stage.with_cp, stage_mergers, restore)
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
