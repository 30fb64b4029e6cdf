"""Swin Transformer V2 with token merging, on mmpretrain's ``SwinTransformerV2``; as :mod:`.ltm_swin`.

Norms come behind attention and MLP here: x + U norm(mlp(G^T x)).

Departures from mmpretrain's class, beside merging, are those of :class:`.LTMSwin`; and where a block merges,
stochastic depth drops what comes out of the norm, as in the authors' code, not what goes into it.
"""

from typing import Any

from mmpretrain.models.backbones import SwinTransformerV2
from torch import Tensor

from mmltm.merging.grids import Grid
from mmltm.registry import MODELS

from .ltm_swin import LTMSwinStage, SwinMergingBackbone, attention


def attend(block: Any, grid: Grid, x: Tensor) -> Tensor:
    """First half of a block: attention in windows, its norm and its residual."""
    return block.norm1(attention(block, grid, x)) + x


def feed_forward(block: Any, operator: Any | None, x: Tensor) -> Tensor:
    """Second half of a block: the MLP, on merged tokens if there is an operator, its norm and its residual."""
    if operator is None:
        x = block.norm2(block.ffn(x)) + x
    else:
        x = x + block.ffn.dropout_layer(
            operator.detour(x, lambda tokens: block.norm2(block.ffn.gamma2(block.ffn.layers(tokens)))))
    return block.norm3(x) if block.extra_norm else x


class LTMSwinV2Stage(LTMSwinStage):
    """As in :class:`.LTMSwin`, but that ``downsample`` leads to this stage."""
    attend = staticmethod(attend)
    feed_forward = staticmethod(feed_forward)


@MODELS.register_module()
class LTMSwinV2(SwinMergingBackbone, SwinTransformerV2):
    """Swin Transformer V2 backbone with token merging in every MLP; all maps keep their nominal size.

    Args:
        arch (str or dict): 'tiny', 'small', 'base', 'large', or what else mmpretrain's class takes. Defaults to 'tiny'.
        ratio, merger, preset, out_indices, frozen_stages, with_cp, pretrained, norm_cfg, stage_cfgs, patch_cfg: See
            :class:`.LTMSwin`. Masks have windows of 8 x 8 tokens by default, whatever those of attention are.
        **kwargs: Other arguments of mmpretrain's ``SwinTransformerV2``.
    """
    stage = LTMSwinV2Stage
    mask_window = 8
    downsampling = dict(use_post_norm=True)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Maps of ``out_indices``, ascending, at strides 4, 8, 16, 32."""
        x, grid = self._embed(x)
        outputs, carry = [], None
        for index, stage in enumerate(self.stages):
            if stage.downsample is not None:
                x, grid = stage.downsample(x, grid)
            x, carry = stage(x, grid, carry)
            if index in self.out_indices:
                outputs.append(self._output(index, x, grid))
        return tuple(outputs)

    def _delete_reinit_params(self, state_dict: dict, prefix: str, *args, **kwargs) -> None:
        # The parent deletes these constants of a window from what is loaded, which are missing then.
        state_dict.update((prefix + name, value) for name, value in self.named_buffers()
                          if name.endswith(('relative_position_index', 'relative_coords_table')))
