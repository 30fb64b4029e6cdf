"""The ViT of ViTDet and SAM with token merging, on mmpretrain's ``ViTSAM``.

Most blocks attend within windows, a few to the whole image, all with relative positions, which are about a grid: every
block brings all tokens back. A windowed block merges for its MLP alone, as Swin's do (:mod:`.ltm_swin`). A global one
merges at its start and attends among merged tokens, too, x + U (block(G^T x) - G^T x), since attention is half of its
products at 1024 pixels. Merged tokens lie on a grid of their own, for which the tables of relative positions are
resampled as mmpretrain does it for images of another size.

Departures from mmpretrain's class, beside merging: layers behind the last of ``out_indices`` are not built; frozen
layers stay in evaluation mode; ``with_cp``; position embeddings of a plain ViT are accepted, such as MAE's.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch.nn as nn
from mmpretrain.models.backbones import ViTSAM
from mmpretrain.models.backbones.vit_sam import TransformerEncoderLayer, window_partition
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor

from mmltm.merging import Host
from mmltm.merging.base import MergeOperator
from mmltm.merging.grids import as_grid
from mmltm.models.mergers import build_mergers, has_block_ratios, merger_config
from mmltm.registry import MODELS

from .common import check_arch, check_frozen, check_indices, run
from .ltm_swin import feed_forward, window_reverse
from .plain import PlainMergingBackbone


def attend(layer: TransformerEncoderLayer, x: Tensor) -> Tensor:
    """First half of a layer, (B, H, W, C): attention, in windows if it has any, and its residual."""
    update = layer.ln1(x)
    if not layer.window_size:
        return x + layer.attn(update)
    windows, (height, width) = window_partition(update, layer.window_size)
    return x + window_reverse(layer.attn(windows), height, width, layer.window_size)[:, :x.shape[1], :x.shape[2]]


def encode_merged(layer: TransformerEncoderLayer, operator: MergeOperator, x: Tensor) -> Tensor:
    """A whole layer with global attention on merged tokens, (B, H, W, C), all of which are back behind it."""
    full = x.permute(0, 3, 1, 2)
    merged = operator.merge(full)
    update = feed_forward(layer, None, attend(layer, merged.permute(0, 2, 3, 1)))
    return operator.restore(full, merged, update.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


@MODELS.register_module()
class LTMViTSAM(PlainMergingBackbone, ViTSAM):
    """ViTDet's and SAM's backbone with token merging in every block; all maps keep their nominal size.

    Args:
        arch (str or dict): 'base', 'large', 'huge', or the settings as mmpretrain's class takes them. Defaults to
            'base'.
        ratio, merger, preset, out_indices, frozen_stages, with_cp, pretrained: See
            :class:`~mmltm.models.backbones.common.MergingBackbone`. ToMe and ToFu match the tokens of a window, for
            MLPs alone; EViT and LTMP are refused. Masks have windows of 8 x 8 tokens by default, which
            fill 1024 pixels. ``frozen_stages`` k > 0 is the embeddings and the first k layers.
        merge_attention (bool): Global blocks attend among merged tokens. Defaults to True.
        **kwargs: Other arguments of mmpretrain's ``ViTSAM``. ViTDet wants ``out_channels=0``.
    """
    layers: Any
    pos_embed: Any

    def __init__(self, arch: str | dict = 'base', *, ratio: float | Sequence[float] | None = None,
                 merger: dict | None = None, preset: str | None = None, merge_attention: bool = True,
                 out_indices: int | Sequence[int] = -1, frozen_stages: int = -1, with_cp: bool = False,
                 pretrained: str | None = None, **kwargs) -> None:
        settings = check_arch(arch, self.arch_zoo, 'dict')
        depth = settings['num_layers']
        out_indices = check_indices(out_indices, depth)
        check_frozen(frozen_stages, depth)
        super().__init__(settings, out_indices=out_indices, **kwargs)
        self.frozen_stages, self.with_cp, self.pretrained = frozen_stages, with_cp, pretrained
        self.merge_attention = merge_attention
        if not self.use_abs_pos:
            self.pos_embed = None
        config = merger_config(merger, ratio, preset, pretrained)
        if config is not None and has_block_ratios(config):
            config.setdefault('window', 8)
        host = Host([depth], [self.embed_dims], progressive=False, sequences='windows',
                    strides=[self.patch_embed.projection.stride[0]])
        self.mergers = build_mergers(config, host)[0][:max(out_indices) + 1]
        self.layers = self.layers[:max(out_indices) + 1]
        self._freeze_stages()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Outputs of ``out_indices``, (B, C, h, w), C of ``out_channels`` if not 0; means of theirs, 'avg_featmap'."""
        x, grid = self.patch_embed(x)
        grid = as_grid(grid)
        x = x.reshape(-1, *grid, self.embed_dims)
        if self.use_abs_pos:
            positions = resize_pos_embed(self.pos_embed.flatten(1, 2), self.patch_resolution, grid,
                                         self.interpolate_mode, num_extra_tokens=0)
            x = self.drop_after_pos(x + positions.unflatten(1, grid))
        x = x.contiguous()  # mergers ask memory whether channels come last; dropout, in which order to draw
        outputs, carry = [], None
        for index, (layer, merger) in enumerate(zip(self.layers, self.mergers)):
            x, carry = self._encode(layer, merger, x, carry)
            if index in self.out_indices:
                output = x.permute(0, 3, 1, 2)
                outputs.append(self._format_output(self.channel_reduction(output) if self.out_channels else output))
        return tuple(outputs)

    def _encode(self, layer: Any, merger: Any, x: Tensor, carry: Any) -> tuple[Tensor, Any]:
        """A layer's output, (B, H, W, C), and what its merger has for the next."""
        grid, operator = as_grid(x.shape[1:3]), None
        whole = self.merge_attention and not layer.window_size and getattr(merger, 'keeps_grid', False)
        if not whole:
            x = run(partial(attend, layer), x, self.with_cp)
        if not isinstance(merger, nn.Identity):
            operator, carry = merger(x.permute(0, 3, 1, 2), carry)
        if whole and operator is not None:
            return run(partial(encode_merged, layer, operator), x, self.with_cp), carry
        if whole:
            x = run(partial(attend, layer), x, self.with_cp)
        x = run(partial(feed_forward, layer, operator), x.flatten(1, 2), self.with_cp)
        return x.reshape(-1, *grid, self.embed_dims), carry

    def _prepare_pos_embed(self, state_dict: dict, prefix: str, *args, **kwargs) -> None:
        name = f'{prefix}pos_embed'
        if name in state_dict and state_dict[name].dim() == 3:  # of a plain ViT, perhaps with a class token
            side = math.isqrt(state_dict[name].shape[1])
            state_dict[name] = state_dict[name][:, -side**2:].unflatten(1, (side, side))
        super()._prepare_pos_embed(state_dict, prefix, *args, **kwargs)
