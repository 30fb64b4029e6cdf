"""SAM's and ViTDet's ViT: timm's ``samvit_*_patch16``, and the image encoder in SAM's checkpoints.

ViTDet starts from plain ViTs of MAE: their class token and last norm find no place.
"""

from mmpretrain.models.backbones import ViTSAM

from ..backbones import LTMViTSAM
from .base import POOLING, Architecture, Family, Layout, register_family
from .vision_transformer import ENCODER_LAYER, patch_arguments

_TIMM = Layout((
    (r'^image_encoder\.', ''),
    *ENCODER_LAYER,
    (r'^blocks\.', 'backbone.layers.'),
    (r'^neck\.', 'backbone.channel_reduction.'),
    (r'^patch_embed\.proj\.', 'backbone.patch_embed.projection.'),
    (r'^pos_embed$', 'backbone.pos_embed'),
    (r'^head\.(fc\.)?', 'head.fc.'),
))


def _arguments(backbone: ViTSAM) -> dict:
    layers = backbone.layers
    return dict(
        patch_arguments(backbone, 'out_type', 'out_channels', 'use_abs_pos'),
        use_rel_pos=layers[0].attn.use_rel_pos,
        window_size=max(layer.window_size for layer in layers))


register_family(Family(
    name='vit_sam',
    vanilla=ViTSAM,
    merging=LTMViTSAM,
    architectures={name: Architecture(arch, dict(in_channels=256), dict(img_size=1024)) for name, arch in (
        ('samvit_b', 'base'), ('samvit_l', 'large'), ('samvit_h', 'huge'))},
    head='LinearClsHead',
    arguments=_arguments,
    layouts=dict(timm=_TIMM),
    constants=r'^(backbone\.)?(cls_token|ln1\.(weight|bias)|(mask_decoder|prompt_encoder)\..*)$',
    neck=POOLING,
))
