"""Small backbones with token merging, and how they get into a config of mmdet or mmpretrain."""

import torch

#: Backbone configs and the channels of their maps at strides 4, 8, 16 and 32.
BACKBONES = dict(
    EfficientViT=(dict(type='mmltm.LTMEfficientViT', arch='b0', ratio=0.7), (1, 2, 3, 4), (16, 32, 64, 128)),
    MobileViT=(dict(type='mmltm.LTMMobileViT', arch='xx_small', ratio=0.7), (1, 2, 3, 4), (24, 48, 64, 320)),
    Swin=(dict(
        type='mmltm.LTMSwin', ratio=0.7,
        arch=dict(embed_dims=24, depths=(1, 1, 2, 1), num_heads=(1, 2, 4, 8))), (0, 1, 2, 3), (24, 48, 96, 192)),
)
VIT = dict(
    type='mmltm.LTMVisionTransformer', ratio=0.7, img_size=64,
    arch=dict(embed_dims=48, num_layers=3, num_heads=3, feedforward_channels=96))


def pyramid(name, levels):
    """Config of a backbone that gives its last maps, and their channels."""
    backbone, indices, channels = BACKBONES[name]
    return dict(backbone, out_indices=indices[-levels:]), list(channels[-levels:])


def assert_all_learn(backbone):
    """Every parameter has a finite gradient, and some masks' logits one that is not zero."""
    gradients = {name: parameter.grad for name, parameter in backbone.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    logits = [gradient for name, gradient in gradients.items() if name.endswith('.logits')]
    assert torch.cat([gradient.flatten() for gradient in logits]).any()
