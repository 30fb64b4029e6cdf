"""ViT, DeiT and DINOv2 with token merging (LTM paper, section 3.1), on mmpretrain's ``VisionTransformer``.

A block attends to all its tokens, merges the patch tokens, runs its MLP on the class token and the merged
ones, and hands these on. The class token is never merged. Position embeddings are added before the first
block, so any image size works as it does in mmpretrain's class. ``ratio`` is the mean share of patch tokens
that the MLPs see: every block keeps about the same share of its own tokens, in windows of 7 x 7 patches whose
sides shrink one at a time, so the last block sees fewer than ``ratio`` and the first one more.

Departures from mmpretrain's class, beside merging: layers behind the last of ``out_indices`` are not built;
frozen layers stay in evaluation mode; ``with_cp``.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn as nn
from mmpretrain.models.backbones import VisionTransformer
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor

from mmltm.merging import Host
from mmltm.merging.grids import Grid, as_grid
from mmltm.merging.sequences import History, SequenceMerger
from mmltm.models.mergers import merger_config
from mmltm.registry import MODELS

from .common import check_arch, check_frozen, check_indices, check_restore, encode_sequence
from .plain import PlainMergingBackbone, encode_on_grid, plain_mergers


@MODELS.register_module()
class LTMVisionTransformer(PlainMergingBackbone, VisionTransformer):
    """ViT backbone with token merging in every block but the last, for images of any size.

    Nobody reads what the last block would hand on, or reads it at once, so it merges nothing.

    Args:
        arch (str or dict): 'deit-tiny', 'deit-small', 'deit-base' (ViT-T, -S, -B), 'dinov2-small', 'dinov2-base',
            'dinov2-large', or what else mmpretrain's class takes. Defaults to 'base'.
        ratio (float or Sequence[float], optional): Mean share of patch tokens over the blocks, in (0, 1]; or for each
            block the share of its own tokens that it keeps (the last of these has no effect).
        merger, preset, out_indices, frozen_stages, with_cp, pretrained: See
            :class:`~mmltm.models.backbones.common.MergingBackbone`. All mergers work here, EViT with a class token.
            ``frozen_stages`` k > 0 is the embeddings and the first k layers.
        restore (str): 'stage' brings patch tokens back to the full grid where they leave the backbone: those before
            merging and what the merged ones have gained; 'none' gives the merged ones, no map if they have no grid;
            in 'avg_featmap' these count as often as tokens went into them. The class token does not depend on it.
            Defaults to 'stage'.
        **kwargs: Other arguments of mmpretrain's ``VisionTransformer``.
    """
    arch_zoo = {**VisionTransformer.arch_zoo, 'dinov2-base': VisionTransformer.arch_zoo['base'],
                'dinov2-large': VisionTransformer.arch_zoo['large']}
    layers: Any
    ln1: Any

    def __init__(self, arch: str | dict = 'base', *, ratio: float | Sequence[float] | None = None,
                 merger: dict | None = None, preset: str | None = None, restore: str = 'stage',
                 out_indices: int | Sequence[int] = -1, frozen_stages: int = -1, with_cp: bool = False,
                 pretrained: str | None = None, **kwargs) -> None:
        settings = check_arch(arch, self.arch_zoo, 'dict')
        depth = settings['num_layers']
        out_indices = check_indices(out_indices, depth)
        check_frozen(frozen_stages, depth)
        restore = check_restore(restore)
        super().__init__(settings, out_indices=out_indices, **kwargs)
        self.frozen_stages, self.with_cp, self.pretrained = frozen_stages, with_cp, pretrained
        self.restore = 'none' if self.out_type == 'cls_token' else restore

        host = Host([depth - 1], [self.embed_dims], sequences='tokens' if self.cls_token is None else 'class_token',
                    strides=[self.img_size[0] // self.patch_resolution[0]])
        mergers = plain_mergers(merger_config(merger, ratio, preset, pretrained), depth, host, self.img_size)
        last = max(out_indices)
        self.mergers = mergers[:last].append(nn.Identity())
        sequence = next((merger for merger in mergers if isinstance(merger, SequenceMerger)), None)
        self.keeps_grid = sequence is None
        if sequence is not None and self.restore == 'none' and self.out_type == 'featmap':
            raise ValueError(f'merger {type(sequence).__name__} keeps no grid: out_type=\'featmap\' needs '
                             "restore='stage'")
        self.layers = self.layers[:last + 1]
        if last < depth - 1:
            self.final_norm, self.ln1 = False, None
        self._freeze_stages()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Outputs of ``out_indices``, as ``out_type`` says: (B, C), 'featmap' (B, C, h, w), 'raw' (B, 1 + h w, C)."""
        x, grid = self.patch_embed(x)
        grid = as_grid(grid)
        if self.cls_token is not None:
            x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1)
        x = x + resize_pos_embed(self.pos_embed, self.patch_resolution, grid,
                                 self.interpolate_mode, self.num_extra_tokens)
        x = self.pre_norm(self.drop_after_pos(x))
        return self._forward_grid(x, grid) if self.keeps_grid else self._forward_sequence(x, grid)

    def _forward_grid(self, x: Tensor, grid: Grid) -> tuple[Tensor, ...]:
        """Outputs from embedded tokens, (B, N, C), which mergers leave on a grid."""
        wanted = sorted({*self.out_indices})
        outputs = encode_on_grid(self.layers, self.mergers, x, grid, self.num_extra_tokens, wanted,
                                 self.restore != 'none', self.with_cp)
        return tuple(self._output(index, *output) for index, output in zip(wanted, outputs))

    def _forward_sequence(self, x: Tensor, grid: Grid) -> tuple[Tensor, ...]:
        """Outputs from embedded tokens, (B, N, C), which mergers leave without a grid."""
        outputs, nominal, has_class = [], grid, self.cls_token is not None
        history = History.whole(x, track=self.restore != 'none')
        for index, (layer, merger) in enumerate(zip(self.layers, self.mergers)):
            x, history, nominal = encode_sequence(layer, merger, x, history, nominal, has_class, self.with_cp)
            if index in self.out_indices:
                if self.restore != 'none':
                    outputs.append(self._output(index, history.restore(x), grid))
                elif self.out_type == 'avg_featmap':
                    outputs.append(self.ln2(history.mean(self._normalized(index, x), self.num_extra_tokens)))
                else:
                    outputs.append(self._output(index, x, grid))
        return tuple(outputs)

    def _output(self, index: int, x: Tensor, grid: Grid) -> Tensor:
        return self._format_output(self._normalized(index, x), grid)

    def _normalized(self, index: int, x: Tensor) -> Tensor:
        return self.ln1(x) if index == self.num_layers - 1 and self.final_norm else x
