"""Swin Transformer with token merging (LTM paper, section 3.1), on mmpretrain's ``SwinTransformer``.

Shifted windows and position biases need every token, so a block merges for its MLP only and brings the MLP's
update back: x + U mlp(G^T x). A block's masks are shared by all its windows, which lie on the grid of tokens
from its origin; what remains at the edges is merged by resampled masks, so no padding takes part.

The residual stream is merged, then normalised: norm(G^T x), not G^T norm(x). A mean of normalised tokens is
shorter than a normalised token, the more so the less they agree, and the MLP has never seen such input; the
norm of a mean has the scale that the MLP was trained on. It is cheaper too.

Departures from mmpretrain's class, beside merging: what ``out_indices`` do not ask for is not built;
``frozen_stages`` act from construction on; ``norm_cfg`` reaches the inner norms too; maps smaller than a window
are padded without being asked for.
"""

from collections.abc import Sequence
from typing import Any

import torch.nn as nn
import torch.nn.functional as F
from mmengine.model import BaseModule, ModuleList
from mmpretrain.models.backbones import SwinTransformer
from mmpretrain.models.backbones.swin_transformer import SwinBlock
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor

from mmltm.merging import Host
from mmltm.merging.grids import Grid, tokens_to_map
from mmltm.models.mergers import build_mergers, has_block_ratios, merger_config
from mmltm.models.pretrained import StartsPretrained
from mmltm.registry import MODELS

from .common import check_indices, freeze, run


def attend(block: SwinBlock, x: Tensor, grid: Grid) -> Tensor:
    """First half of a Swin block: attention in windows and its residual.

    A map that is smaller than a window is padded to its size, where mmpretrain's class wants to be told so.
    """
    update, (height, width) = block.norm1(x), grid
    padded = tuple(max(side, block.attn.window_size) for side in grid)
    if padded == tuple(grid) or block.attn.pad_small_map:
        return block.attn(update, grid) + x
    update = F.pad(update.unflatten(1, grid), (0, 0, 0, padded[1] - width, 0, padded[0] - height))
    update = block.attn(update.flatten(1, 2), padded).unflatten(1, padded)
    return update[:, :height, :width].flatten(1, 2) + x


def feed_forward(block: SwinBlock, x: Tensor, operator: Any | None) -> Tensor:
    """Second half of a Swin block: the MLP, on merged tokens if there is an operator, and its residual."""
    if operator is None:
        return block.ffn(block.norm2(x), identity=x)
    # Stochastic depth comes behind the way back: it drops the update of an image, not that of a window.
    update = operator.detour(x, lambda tokens: block.ffn.gamma2(block.ffn.layers(block.norm2(tokens))))
    return x + block.ffn.dropout_layer(update)


class LTMSwinStage(BaseModule):
    """The blocks of a stage, with their mergers, and the layer that leads to the next stage.

    Args:
        blocks (nn.ModuleList): Swin blocks.
        downsample (nn.Module, optional): None where the next stage is not built, or there is none.
        mergers (nn.ModuleList): A merger for each block, or an identity where it merges nothing.
        with_cp (bool): Recompute activations in the backward pass to save memory.
    """

    def __init__(self, blocks: nn.ModuleList, downsample: nn.Module | None, mergers: nn.ModuleList,
                 with_cp: bool) -> None:
        super().__init__()
        self.blocks, self.downsample, self.mergers = blocks, downsample, mergers
        self.with_cp = with_cp

    def forward(self, x: Tensor, grid: Grid, carry: Any | None = None) -> tuple[Tensor, Any]:
        """Run the blocks.

        Args:
            x (Tensor): (B, N, C), tokens of ``grid``.
            grid (tuple): Height and width, N their product.
            carry (Any, optional): Of the stage before.

        Returns:
            tuple: Tokens, (B, N, C), and what the last merger hands on to the next stage's first.
        """
        for block, merger in zip(self.blocks, self.mergers):
            operator = None
            x = run(lambda x, block=block: attend(block, x, grid), x, self.with_cp)
            if not isinstance(merger, nn.Identity):
                operator, carry = merger(tokens_to_map(x, grid), carry)
            x = run(lambda x, block=block, op=operator: feed_forward(block, x, op), x, self.with_cp)
        return x, carry


@MODELS.register_module()
class LTMSwin(StartsPretrained, SwinTransformer):
    """Swin Transformer backbone with token merging in every MLP.

    Without ``ratio`` and ``merger``, or at ratio 1.0, it is mmpretrain's ``SwinTransformer``, bit for bit;
    otherwise the merging parameters alone are missing from a vanilla checkpoint. All maps keep their nominal
    size.

    Args:
        arch (str or dict): 'tiny', 'small', 'base', 'large', or the settings as mmpretrain's class takes
            them. Defaults to 'tiny'.
        ratio (float or Sequence[float], optional): Share of tokens that the MLP of each block sees, in (0,
            1], or one value a block. Short for ``merger=dict(type='LTM', ratio=ratio)``.
        merger (dict, optional): Config of the merger, see :func:`mmltm.models.mergers.build_mergers`. ToMe and ToFu
            match the tokens of a window; EViT and LTMP are refused.
        preset (str, optional): 'paper': the merger's defaults are those of the LTM paper, see
            :func:`mmltm.models.mergers.merger_config`. Defaults to None.
        window_size (int): Of the attention. Defaults to 7. The windows of the masks are ``merger['window']``,
            of the same size by default.
        out_indices (int or Sequence[int]): Stages to return, negative ones counted from the end. Stages
            behind the last of them are not built. Defaults to (3, ).
        frozen_stages (int): -1: nothing is frozen; k: the patch embedding and stages 0 to k, with their
            masks, from construction on. Defaults to -1.
        with_cp (bool): Recompute activations in the backward pass to save memory. Defaults to False.
        pretrained (str, optional): Classifier to start from, see
            :class:`~mmltm.models.pretrained.StartsPretrained`. Defaults to None.
        norm_cfg (dict, optional): Config of all norms, but those for which ``stage_cfgs`` or ``patch_cfg`` have
            their own; None leaves the outputs without. Defaults to ``dict(type='LN')``.
        stage_cfgs, patch_cfg: As mmpretrain's class takes them.
        **kwargs: Other arguments of mmpretrain's ``SwinTransformer``.

    Raises:
        ValueError: For a ratio outside (0, 1], a list of another length than there are blocks, or ``arch``,
            ``out_indices`` or ``frozen_stages`` out of range.
    """

    def __init__(self,
                 arch: str | dict = 'tiny',
                 *,
                 ratio: float | Sequence[float] | None = None,
                 merger: dict | None = None,
                 preset: str | None = None,
                 window_size: int = 7,
                 out_indices: int | Sequence[int] = (3, ),
                 frozen_stages: int = -1,
                 with_cp: bool = False,
                 pretrained: str | None = None,
                 norm_cfg: dict | None = dict(type='LN'),
                 stage_cfgs: dict | Sequence[dict] = dict(),
                 patch_cfg: dict = dict(),
                 **kwargs) -> None:
        if isinstance(arch, str):
            if arch.lower() not in self.arch_zoo:
                raise ValueError(f'arch must be one of {tuple(self.arch_zoo)} or a dict, got {arch!r}')
            arch = self.arch_zoo[arch.lower()]
        count = len(arch['depths'])
        out_indices = check_indices(out_indices, count)
        if not -1 <= frozen_stages < count:
            raise ValueError(f'frozen_stages must be -1 (none) to {count - 1}, got {frozen_stages}')
        if norm_cfg is not None:
            stages = [stage_cfgs] * count if isinstance(stage_cfgs, dict) else stage_cfgs
            stage_cfgs = [_with_norms(stage, norm_cfg) for stage in stages]
            patch_cfg = {'norm_cfg': norm_cfg, **patch_cfg}
        super().__init__(
            arch, window_size=window_size, out_indices=out_indices, frozen_stages=frozen_stages, norm_cfg=norm_cfg,
            stage_cfgs=stage_cfgs, patch_cfg=patch_cfg, **kwargs)
        self.pretrained = pretrained
        config = merger_config(merger, ratio, preset, pretrained)
        if config is not None and has_block_ratios(config):
            config.setdefault('window', window_size)
        mergers = build_mergers(
            config, Host(self.depths, [stage.embed_dims for stage in self.stages], progressive=False,
                         sequences='windows',
                         strides=[self.patch_embed.projection.stride[0] * 2**index for index in range(count)]))
        stages = list(zip(self.stages, mergers))[:max(out_indices) + 1]
        self.stages = ModuleList(LTMSwinStage(stage.blocks, stage.downsample, stage_mergers, with_cp)
                                 for stage, stage_mergers in stages)
        if not self.out_after_downsample:
            self.stages[-1].downsample = None
        self._freeze_stages()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of ``out_indices``, in ascending order.

        Args:
            x (Tensor): (B, in_channels, H, W).

        Returns:
            tuple[Tensor]: Maps at strides 4, 8, 16, 32 (one further with ``out_after_downsample``).
        """
        x, grid = self.patch_embed(x)
        if self.use_abs_pos_embed:
            x = x + resize_pos_embed(self.absolute_pos_embed, self.patch_resolution, grid,
                                     self.interpolate_mode, self.num_extra_tokens)
        x = self.drop_after_pos(x)
        outputs, carry = [], None
        for index, stage in enumerate(self.stages):
            x, carry = stage(x, grid, carry)
            if stage.downsample is not None and self.out_after_downsample:
                x, grid = stage.downsample(x, grid)
            if index in self.out_indices:
                outputs.append(tokens_to_map(getattr(self, f'norm{index}')(x), grid).contiguous())
            if stage.downsample is not None and not self.out_after_downsample:
                x, grid = stage.downsample(x, grid)
        return tuple(outputs)

    def _freeze_stages(self) -> None:
        if self.frozen_stages < 0:
            return
        freeze([self.patch_embed, self.drop_after_pos, *self.stages[:self.frozen_stages + 1]])
        freeze(getattr(self, f'norm{index}') for index in self.out_indices if index <= self.frozen_stages)
        if self.use_abs_pos_embed:
            self.absolute_pos_embed.requires_grad = False

    def train(self, mode: bool = True) -> 'LTMSwin':
        super().train(mode)
        return self

    def _load_from_state_dict(self, state_dict: dict, prefix: str, local_metadata: dict, *args,
                              **kwargs) -> None:
        # The parent renames what old checkpoints hold for its own class only, not for those derived from it.
        if (local_metadata.get('version') or 0) < 2 and f'{prefix}norm.weight' in state_dict:
            last = f'{prefix}norm{self.num_layers - 1}'
            for name in ('weight', 'bias'):
                state_dict[f'{last}.{name}'] = state_dict.pop(f'{prefix}norm.{name}')
        for name in [name for name in state_dict if name.startswith(prefix) and name.endswith('attn_mask')]:
            del state_dict[name]
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args, **kwargs)


def _with_norms(stage_cfg: dict, norm_cfg: dict) -> dict:
    """Config of a stage that says the norms of its blocks and of its patch merging."""
    norms = dict(norm_cfg=norm_cfg)
    blocks = stage_cfg.get('block_cfgs', {})
    blocks = {**norms, **blocks} if isinstance(blocks, dict) else [{**norms, **block} for block in blocks]
    return {**stage_cfg, 'block_cfgs': blocks, 'downsample_cfg': {**norms, **stage_cfg.get('downsample_cfg', {})}}
