"""Swin V2: timm's ``swinv2_*_window8_256`` and the authors' checkpoints; of other windows and sizes by arguments."""

from mmpretrain.models.backbones import SwinTransformerV2

from ..backbones import LTMSwinV2
from .base import POOLING, Family, Layout, register_family
from .swin import BLOCKS, architectures, unfolded
from .vision_transformer import patch_arguments

# Here norms of patch mergings come behind the reduction, whose inputs alone are in another order.
_TIMM = Layout(BLOCKS, lambda name, value: unfolded(name, value) if name.endswith('reduction.weight') else value)


def _arguments(backbone: SwinTransformerV2) -> dict:
    return dict(
        patch_arguments(backbone, 'use_abs_pos_embed', 'norm_eval'),
        window_size=backbone.window_sizes,
        with_cp=backbone.stages[0].blocks[0].with_cp)


register_family(Family(
    name='swin_v2',
    vanilla=SwinTransformerV2,
    merging=LTMSwinV2,
    architectures=architectures('swinv2'),
    head='LinearClsHead',
    arguments=_arguments,
    layouts=dict(timm=_TIMM),
    constants=r'(^|\.)(attn_mask|relative_position_index|relative_coords_table)$',
    neck=POOLING,
))
