"""ViT and DeiT: timm's ``vit_*_patch16_224`` and ``deit_*_patch16_224``, which DeiT's authors name alike."""

from .layout import Layout

#: The MLP of timm's blocks, mmcv's ``FFN``.
FFN = (
    (r'\.mlp\.fc1\.', '.ffn.layers.0.0.'),
    (r'\.mlp\.fc2\.', '.ffn.layers.1.'),
)

#: timm's ``Block``, mmpretrain's ``TransformerEncoderLayer``.
ENCODER_LAYER = (*FFN, (r'\.norm([12])\.', r'.ln\1.'))

TIMM = Layout((
    *ENCODER_LAYER,
    (r'^blocks\.', 'backbone.layers.'),
    (r'^norm\.', 'backbone.ln1.'),
    (r'^patch_embed\.proj\.', 'backbone.patch_embed.projection.'),
    (r'^(cls_token|pos_embed)$', r'backbone.\1'),
    (r'^head\.', 'head.layers.head.'),
))
