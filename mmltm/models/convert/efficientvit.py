"""EfficientViT: timm's ``efficientvit_b0`` to ``b3``, and the authors' classifiers (mit-han-lab/efficientvit).

Both name the layers within a block alike. Around them timm has ``stem``, ``stages`` and a flat head, the authors
``OpSequential`` containers whose layers are an ``op_list``.
"""

from .layout import Layout, shifted

_BLOCKS = (
    (r'\.main\.', '.'),
    (r'\.norm\.', '.bn.'),
    (r'\.context_module\.', '.context.'),
    (r'\.local_module\.', '.local.'),
    (r'\.qkv\.conv\.', '.qkv.'),
    (r'\.aggreg\.', '.aggregations.'),
)

TIMM = Layout((
    *_BLOCKS,
    (r'^stem\.in_conv\.', 'backbone.stem.0.'),
    (r'^stem\.res(\d+)\.', shifted('backbone.stem.{}.', 1)),
    (r'^stages\.(\d+)\.blocks\.0\.', r'backbone.stages.\1.downsample.'),
    (r'^stages\.(\d+)\.blocks\.(\d+)\.', shifted('backbone.stages.{}.blocks.{}.', -1)),
    (r'^head\.in_conv\.', 'head.conv.'),
    (r'^head\.classifier\.4\.', 'head.fc.'),
    (r'^head\.classifier\.', 'head.hidden.'),
))

MIT = Layout((
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
