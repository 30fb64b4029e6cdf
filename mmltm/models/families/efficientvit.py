"""EfficientViT: timm's ``efficientvit_b0`` to ``b3``, and the authors' classifiers (mit-han-lab/efficientvit).

Both name the layers within a block alike. Around them timm has ``stem``, ``stages`` and a flat head, the authors
``OpSequential`` containers whose layers are an ``op_list``.
"""

from ..backbones import EfficientViT, LTMEfficientViT
from .base import Architecture, Family, Layout, attributes, register_family, shifted

_BLOCKS = (
    (r'\.main\.', '.'),
    (r'\.norm\.', '.bn.'),
    (r'\.context_module\.', '.context.'),
    (r'\.local_module\.', '.local.'),
    (r'\.qkv\.conv\.', '.qkv.'),
    (r'\.aggreg\.', '.aggregations.'),
)

_TIMM = Layout((
    *_BLOCKS,
    (r'^stem\.in_conv\.', 'backbone.stem.0.'),
    (r'^stem\.res(\d+)\.', shifted('backbone.stem.{}.', 1)),
    (r'^stages\.(\d+)\.blocks\.0\.', r'backbone.stages.\1.downsample.'),
    (r'^stages\.(\d+)\.blocks\.(\d+)\.', shifted('backbone.stages.{}.blocks.{}.', -1)),
    (r'^head\.in_conv\.', 'head.conv.'),
    (r'^head\.classifier\.4\.', 'head.fc.'),
    (r'^head\.classifier\.', 'head.hidden.'),
))

_MIT = Layout((
    # Before the rules of the blocks, for this norm is no batch normalisation.
    (r'^head\.op_list\.2\.norm\.', 'head.hidden.1.'),
    (r'^head\.op_list\.2\.linear\.', 'head.hidden.0.'),
    (r'^head\.op_list\.3\.linear\.', 'head.fc.'),
    (r'^head\.op_list\.0\.', 'head.conv.'),
    *_BLOCKS,
    (r'^backbone\.input_stem\.op_list\.', 'backbone.stem.'),
    (r'^backbone\.stages\.(\d+)\.op_list\.0\.', r'backbone.stages.\1.downsample.'),
    (r'^backbone\.stages\.(\d+)\.op_list\.(\d+)\.', shifted('backbone.stages.{}.blocks.{}.', -1)),
))


def _arguments(backbone: EfficientViT) -> dict:
    kept = ('arch', 'out_indices', 'frozen_stages', 'norm_eval', 'with_cp', 'norm_cfg', 'act_cfg')
    return dict(attributes(backbone, *kept), in_channels=backbone.stem[0].in_channels)


register_family(Family(
    name='efficientvit',
    vanilla=EfficientViT,
    merging=LTMEfficientViT,
    architectures=dict(
        efficientvit_b0=Architecture('b0', dict(in_channels=128, hidden_channels=(1024, 1280))),
        efficientvit_b1=Architecture('b1', dict(in_channels=256, hidden_channels=(1536, 1600))),
        efficientvit_b2=Architecture('b2', dict(in_channels=384, hidden_channels=(2304, 2560))),
        efficientvit_b3=Architecture('b3', dict(in_channels=512, hidden_channels=(2304, 2560))),
    ),
    head='mmltm.EfficientViTClsHead',
    arguments=_arguments,
    layouts=dict(timm=_TIMM, mit=_MIT),
))
