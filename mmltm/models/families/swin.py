"""Swin: timm's ``swin_*_patch4_window7_224``, the authors' checkpoints, and those of mmdet and mmpretrain.

Present timm downsamples at the start of a stage, the authors and timm before 0.9 at the end of the one before. Both
concatenate the four cells of a patch, (column, row, channel); OpenMMLab's packages unfold them, (channel, row, column).
"""

import re
from collections.abc import Collection

from mmpretrain.models.backbones import SwinTransformer
from torch import Tensor

from ..backbones import LTMSwin
from .base import POOLING, Architecture, Family, Layout, register_family, shifted
from .vision_transformer import FFN, patch_arguments

_PATCH_MERGING = re.compile(r'\.downsample\.(norm\.weight|norm\.bias|reduction\.weight)$')


def unfolded(name: str, value: Tensor) -> Tensor:
    """Weights of a patch merging, (..., 4 C), for inputs in the order of OpenMMLab's packages."""
    if not _PATCH_MERGING.search(name):
        return value
    cells = value.unflatten(-1, (2, 2, -1))
    return cells.transpose(-3, -1).flatten(-3)


BLOCKS = (
    *FFN,
    (r'\.attn\.', '.attn.w_msa.'),
    (r'^layers\.', 'backbone.stages.'),
    (r'^patch_embed\.norm\.', 'backbone.patch_embed.norm.'),
    (r'^patch_embed\.proj\.', 'backbone.patch_embed.projection.'),
    (r'^norm\.', 'backbone.norm3.'),
    (r'^head\.(fc\.)?', 'head.fc.'),
)
_PRESENT = Layout(((r'^layers\.(\d+)\.downsample\.', shifted('layers.{}.downsample.', -1)), *BLOCKS), unfolded)
_ORIGINAL = Layout(BLOCKS, unfolded)

# Before mmpretrain numbered norms by their stage.
_OPENMMLAB = Layout(((r'^backbone\.norm\.', 'backbone.norm3.'), ))


def _timm(names: Collection[str]) -> Layout:
    """timm's layout or the authors', whichever these names follow."""
    return _ORIGINAL if 'layers.0.downsample.reduction.weight' in names else _PRESENT


def architectures(prefix: str) -> dict[str, Architecture]:
    """Those of both versions, with the channels of their last stage."""
    return {f'{prefix}_{arch[0]}': Architecture(arch, dict(in_channels=channels)) for arch, channels in (
        ('tiny', 768), ('small', 768), ('base', 1024), ('large', 1536))}


def _arguments(backbone: SwinTransformer) -> dict:
    block = backbone.stages[0].blocks[0]
    return dict(
        patch_arguments(backbone, 'out_after_downsample', 'use_abs_pos_embed', 'norm_eval'),
        window_size=block.attn.window_size,
        with_cp=block.with_cp)


register_family(Family(
    name='swin',
    vanilla=SwinTransformer,
    merging=LTMSwin,
    architectures=architectures('swin'),
    head='LinearClsHead',
    arguments=_arguments,
    layouts=dict(timm=_timm),
    openmmlab=_OPENMMLAB,
    # Of a grid; present timm leaves them out.
    constants=r'(^|\.)(attn_mask|relative_position_index)$',
    neck=POOLING,
))
