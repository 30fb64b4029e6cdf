"""Swin Transformer with token merging (LTM paper, section 3.1), on mmpretrain's ``SwinTransformer``.

Shifted windows and position biases need every token, so a block merges for its MLP only and brings the MLP's
update back: x + U mlp(G^T x). A block's masks are shared by all its windows, which lie on the grid of tokens
from its origin; what remains at the edges is merged by resampled masks, so no padding takes part.

The residual stream is merged, then normalised: norm(G^T x), not G^T norm(x), a mean that is shorter than the normalised
tokens that the MLP was trained on. It is cheaper too.

Departures from mmpretrain's class, beside merging: what ``out_indices`` do not ask for is not built;
``frozen_stages`` act from construction on; ``norm_cfg`` reaches the inner norms too; maps smaller than a window
are padded without being asked for.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch.nn as nn
import torch.nn.functional as F
from mmengine.model import BaseModule, ModuleList
from mmpretrain.models.backbones import SwinTransformer
from mmpretrain.models.backbones.swin_transformer import SwinBlock
from mmpretrain.models.utils import ShiftWindowMSA, resize_pos_embed
from torch import Tensor

from mmltm.merging import Host
from mmltm.merging.grids import Grid, as_grid, tokens_to_map
from mmltm.models.mergers import build_mergers, has_block_ratios, merger_config
from mmltm.registry import MODELS

from .common import MergingBackbone, check_arch, check_frozen, check_indices, freeze, run


def attention(block: Any, grid: Grid, x: Tensor) -> Tensor:
    """Attention of a Swin block in windows, of tokens (B, N, C)."""
    # A map that is smaller than a window is padded to its size, where mmpretrain's class wants to be told so.
    (height, width), padded = grid, tuple(max(side, block.attn.window_size) for side in grid)
    if padded == tuple(grid) or block.attn.pad_small_map:
        return block.attn(x, grid)
    x = F.pad(x.unflatten(1, grid), (0, 0, 0, padded[1] - width, 0, padded[0] - height))
    return block.attn(x.flatten(1, 2), padded).unflatten(1, padded)[:, :height, :width].flatten(1, 2)


def attend(block: SwinBlock, grid: Grid, x: Tensor) -> Tensor:
    """First half of a Swin block: attention in windows and its residual."""
    return attention(block, grid, block.norm1(x)) + x


def feed_forward(block: SwinBlock, operator: Any | None, x: Tensor) -> Tensor:
    """Second half of a Swin block: the MLP, on merged tokens if there is an operator, and its residual."""
    if operator is None:
        return block.ffn(block.norm2(x), identity=x)
    # Stochastic depth comes behind the way back: it drops the update of an image, not that of a window.
    update = operator.detour(x, lambda tokens: block.ffn.gamma2(block.ffn.layers(block.norm2(tokens))))
    return x + block.ffn.dropout_layer(update)


def window_reverse(windows: Tensor, height: int, width: int, side: int) -> Tensor:
    """mmpretrain's, (B T, side, side, C) to (B, H, W, C), for any batch: that one makes a number of it in a graph."""
    x = windows.reshape(-1, height // side, width // side, side, side, windows.shape[-1])
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, height, width, windows.shape[-1])


class LTMSwinStage(BaseModule):
    """The blocks of a stage, with a merger or an identity for each, and what leads to the next stage, if any."""
    attend = staticmethod(attend)
    feed_forward = staticmethod(feed_forward)

    def __init__(self, blocks: nn.ModuleList, downsample: nn.Module | None, mergers: nn.ModuleList,
                 with_cp: bool) -> None:
        super().__init__()
        self.blocks, self.downsample, self.mergers = blocks, downsample, mergers
        self.with_cp = with_cp

    def forward(self, x: Tensor, grid: Grid, carry: Any = None) -> tuple[Tensor, Any]:
        """Tokens of a grid, (B, N, C), behind all blocks, and what goes to the next stage's first merger."""
        for block, merger in zip(self.blocks, self.mergers):
            operator = None
            x = run(partial(self.attend, block, grid), x, self.with_cp)
            if not isinstance(merger, nn.Identity):
                operator, carry = merger(tokens_to_map(x, grid), carry)
            x = run(partial(self.feed_forward, block, operator), x, self.with_cp)
        return x, carry


class SwinMergingBackbone(MergingBackbone):
    """Swin Transformers of both versions, with merging; :class:`LTMSwin` says what the arguments are."""
    arch_zoo: dict
    stage = LTMSwinStage
    stages: Any
    mask_window: int | None = None  # side of masks' windows by default; None: as of those of attention
    downsampling: dict = {}  # arguments of patch mergings

    def __init__(self, arch: str | dict = 'tiny', *, ratio: float | Sequence[float] | None = None,
                 merger: dict | None = None, preset: str | None = None, out_indices: int | Sequence[int] = (3, ),
                 frozen_stages: int = -1, with_cp: bool = False, pretrained: str | None = None,
                 norm_cfg: dict | None = dict(type='LN'), stage_cfgs: dict | Sequence[dict] = dict(),
                 patch_cfg: dict = dict(), **kwargs) -> None:
        model: Any = self
        settings = check_arch(arch, self.arch_zoo, 'dict')
        count = len(settings['depths'])
        out_indices = check_indices(out_indices, count)
        check_frozen(frozen_stages, count - 1)
        if norm_cfg is not None:
            cfgs = [stage_cfgs] * count if isinstance(stage_cfgs, dict) else stage_cfgs
            stage_cfgs = [_with_norms(cfg, norm_cfg, self.downsampling) for cfg in cfgs]
            patch_cfg = {'norm_cfg': norm_cfg, **patch_cfg}
        parent: Any = super()
        parent.__init__(settings, out_indices=out_indices, frozen_stages=frozen_stages, norm_cfg=norm_cfg,
                        stage_cfgs=stage_cfgs, patch_cfg=patch_cfg, **kwargs)
        self.pretrained = pretrained
        config = merger_config(merger, ratio, preset, pretrained)
        if config is not None and has_block_ratios(config):
            config.setdefault('window', self.mask_window or kwargs.get('window_size', 7))
        stride = model.patch_embed.projection.stride[0]
        mergers = build_mergers(config, Host(
            model.depths, [model.embed_dims * 2**index for index in range(count)], progressive=False,
            sequences='windows', strides=[stride * 2**index for index in range(count)]))
        self.stages = ModuleList(
            self.stage(stage.blocks, stage.downsample, stage_mergers, with_cp)
            for stage, stage_mergers in list(zip(self.stages, mergers))[:max(out_indices) + 1])
        if not getattr(self, 'out_after_downsample', True):
            self.stages[-1].downsample = None
        self._freeze_stages()

    def _embed(self: Any, x: Tensor) -> tuple[Tensor, Grid]:
        x, grid = self.patch_embed(x)
        grid = as_grid(grid)
        if self.use_abs_pos_embed:
            x = x + resize_pos_embed(self.absolute_pos_embed, self.patch_resolution, grid, self.interpolate_mode,
                                     self.num_extra_tokens)
        return self.drop_after_pos(x), grid

    def _output(self, index: int, x: Tensor, grid: Grid) -> Tensor:
        return tokens_to_map(getattr(self, f'norm{index}')(x), grid).contiguous()

    def train(self, mode: bool = True) -> 'SwinMergingBackbone':
        for module in self.modules():
            if isinstance(module, ShiftWindowMSA):
                module.window_reverse = window_reverse
        super().train(mode)
        return self

    def _freeze_stages(self: Any) -> None:
        if self.frozen_stages < 0:
            return
        freeze([self.patch_embed, self.drop_after_pos, *self.stages[:self.frozen_stages + 1]])
        freeze(getattr(self, f'norm{index}') for index in self.out_indices if index <= self.frozen_stages)
        if self.use_abs_pos_embed:
            self.absolute_pos_embed.requires_grad = False


@MODELS.register_module()
class LTMSwin(SwinMergingBackbone, SwinTransformer):
    """Swin Transformer backbone with token merging in every MLP; all maps keep their nominal size.

    Args:
        arch (str or dict): 'tiny', 'small', 'base', 'large', or the settings as mmpretrain's class takes
            them. Defaults to 'tiny'.
        ratio, merger, preset, out_indices, frozen_stages, with_cp, pretrained: See
            :class:`~mmltm.models.backbones.common.MergingBackbone`. ToMe and ToFu match the tokens of a window; EViT
            and LTMP are refused. ``frozen_stages`` k is the patch embedding and stages 0 to k.
        window_size (int): Of the attention, and by default of the masks (``merger['window']``). Defaults to 7.
        norm_cfg (dict, optional): Config of all norms, but those for which ``stage_cfgs`` or ``patch_cfg`` have
            their own; None leaves the outputs without. Defaults to ``dict(type='LN')``.
        stage_cfgs, patch_cfg: As mmpretrain's class takes them.
        **kwargs: Other arguments of mmpretrain's ``SwinTransformer``.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Maps of ``out_indices``, ascending, at strides 4, 8, 16, 32 (one further with ``out_after_downsample``)."""
        x, grid = self._embed(x)
        outputs, carry = [], None
        for index, stage in enumerate(self.stages):
            x, carry = stage(x, grid, carry)
            if stage.downsample is not None and self.out_after_downsample:
                x, grid = stage.downsample(x, grid)
            if index in self.out_indices:
                outputs.append(self._output(index, x, grid))
            if stage.downsample is not None and not self.out_after_downsample:
                x, grid = stage.downsample(x, grid)
        return tuple(outputs)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, local_metadata: dict, *args, **kwargs) -> None:
        # The parent renames what old checkpoints hold for its own class only, not for those derived from it.
        if (local_metadata.get('version') or 0) < 2 and f'{prefix}norm.weight' in state_dict:
            last = f'{prefix}norm{self.num_layers - 1}'
            for name in ('weight', 'bias'):
                state_dict[f'{last}.{name}'] = state_dict.pop(f'{prefix}norm.{name}')
        for name in [name for name in state_dict if name.startswith(prefix) and name.endswith('attn_mask')]:
            del state_dict[name]
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args, **kwargs)


def _with_norms(stage_cfg: dict, norm_cfg: dict, downsampling: dict) -> dict:
    """Config of a stage that says the norms of its blocks and of its patch merging."""
    norms = dict(norm_cfg=norm_cfg)
    blocks = stage_cfg.get('block_cfgs', {})
    blocks = {**norms, **blocks} if isinstance(blocks, dict) else [{**norms, **block} for block in blocks]
    return {**stage_cfg, 'block_cfgs': blocks,
            'downsample_cfg': {**norms, **downsampling, **stage_cfg.get('downsample_cfg', {})}}
