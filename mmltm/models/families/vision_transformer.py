"""ViT, DeiT and DINOv2 as timm names them, ``vit_*_patch16_224``, ``vit_*_patch14_dinov2``, and their authors."""

from mmpretrain.models.backbones import SwinTransformer, VisionTransformer
from torch import nn

from ..backbones import LTMVisionTransformer
from .base import Architecture, Family, Layout, attributes, register_family

#: The MLP of timm's blocks, mmcv's ``FFN``.
FFN = (
    (r'\.mlp\.fc1\.', '.ffn.layers.0.0.'),
    (r'\.mlp\.fc2\.', '.ffn.layers.1.'),
)

#: timm's ``Block``, mmpretrain's ``TransformerEncoderLayer``.
ENCODER_LAYER = (
    *FFN,
    (r'\.norm([12])\.', r'.ln\1.'),
    (r'\.ls1\.gamma$', '.attn.gamma1.weight'),
    (r'\.ls2\.gamma$', '.ffn.gamma2.weight'),
)

_TIMM = Layout((
    *ENCODER_LAYER,
    (r'^blocks\.', 'backbone.layers.'),
    (r'^norm\.', 'backbone.ln1.'),
    (r'^patch_embed\.proj\.', 'backbone.patch_embed.projection.'),
    (r'^(cls_token|pos_embed)$', r'backbone.\1'),
    (r'^head\.', 'head.layers.head.'),
))

#: What the published weights of DINOv2 want beside their architecture; the scale of layers is learnt.
_DINOV2 = dict(img_size=518, patch_size=14, layer_scale_init_value=1e-5)


def patch_arguments(backbone: SwinTransformer | VisionTransformer, *kept: str) -> dict:
    """Arguments that backbones on patches have in common, and those that one has kept under their own names."""
    embed = backbone.patch_embed
    return dict(
        attributes(backbone, 'out_indices', 'frozen_stages', 'interpolate_mode', *kept),
        arch=backbone.arch_settings,
        img_size=embed.init_input_size,
        in_channels=embed.projection.in_channels,
        patch_size=embed.projection.kernel_size,
        patch_cfg=dict(stride=embed.projection.stride))


def _arguments(backbone: VisionTransformer) -> dict:
    return dict(
        patch_arguments(backbone, 'final_norm', 'out_type', 'with_cls_token'),
        pre_norm=not isinstance(backbone.pre_norm, nn.Identity))


register_family(Family(
    name='vit',
    vanilla=VisionTransformer,
    merging=LTMVisionTransformer,
    architectures=dict(
        vit_t=Architecture('deit-tiny', dict(in_channels=192)),
        vit_s=Architecture('deit-small', dict(in_channels=384)),
        vit_b=Architecture('deit-base', dict(in_channels=768)),
        dinov2_s=Architecture('dinov2-small', dict(in_channels=384), _DINOV2),
        dinov2_b=Architecture('base', dict(in_channels=768), _DINOV2),
        dinov2_l=Architecture('large', dict(in_channels=1024), _DINOV2),
    ),
    head='VisionTransformerClsHead',
    arguments=_arguments,
    layouts=dict(timm=_TIMM),
    constants=r'^mask_token$',  # of DINOv2's training
))
