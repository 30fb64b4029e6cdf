"""MobileViT: timm's ``mobilevit_xxs``, ``_xs`` and ``_s``.

timm's models take RGB, and so do the weights that it has adapted from others; mmpretrain's MobileViT takes BGR, as
its authors' does. The stem changes over from one to the other.
"""

from mmpretrain.models.backbones import MobileViT
from torch import Tensor

from ..backbones import LTMMobileViT
from .base import POOLING, Architecture, Family, Layout, attributes, register_family
from .vision_transformer import ENCODER_LAYER

#: Encoder layers of a stage, of all sizes; behind them comes a norm.
_DEPTHS = {'2': 2, '3': 4, '4': 3}


def _bgr_stem(name: str, value: Tensor) -> Tensor:
    return value.flip(1) if name == 'stem.conv.weight' else value


_TIMM = Layout((
    (r'\.conv1_1x1\.', '.conv.0.'),
    (r'\.conv2_kxk\.', '.conv.1.'),
    (r'\.conv3_1x1\.', '.conv.2.'),
    (r'\.conv_kxk\.', '.local_rep.0.'),
    (r'\.conv_1x1\.', '.local_rep.1.conv.'),
    (r'^stages\.(\d+)\.1\.norm\.', lambda match: f'stages.{match[1]}.1.global_rep.{_DEPTHS[match[1]]}.'),
    (r'\.transformer\.', '.global_rep.'),
    *ENCODER_LAYER,
    (r'^stages\.', 'backbone.layers.'),
    (r'^stem\.', 'backbone.stem.'),
    (r'^final_conv\.', 'backbone.conv_1x1_exp.'),
), _bgr_stem)


def _arguments(backbone: MobileViT) -> dict:
    last = backbone.conv_1x1_exp.conv
    return dict(
        attributes(backbone, 'arch', 'out_indices', 'frozen_stages'),
        in_channels=backbone.stem.conv.in_channels,
        stem_channels=backbone.stem.conv.out_channels,
        last_exp_factor=last.out_channels // last.in_channels)


register_family(Family(
    name='mobilevit',
    vanilla=MobileViT,
    merging=LTMMobileViT,
    architectures=dict(
        mobilevit_xxs=Architecture('xx_small', dict(in_channels=320)),
        mobilevit_xs=Architecture('x_small', dict(in_channels=384)),
        mobilevit_s=Architecture('small', dict(in_channels=640)),
    ),
    head='LinearClsHead',
    arguments=_arguments,
    layouts=dict(timm=_TIMM),
    neck=POOLING,
    preprocessor=dict(mean=[0, 0, 0], std=[255, 255, 255], to_rgb=False),
))
