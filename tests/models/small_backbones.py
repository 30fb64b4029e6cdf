"""A small backbone of every family, for tests that are about all of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from mmltm.merging.trace import mergers_of
from mmltm.models import LTMEfficientViT, LTMMobileViT, LTMSwin, LTMSwinV2, LTMVisionTransformer, LTMViTSAM

#: Masks for all images, with and without class statistics; masks that follow the image.
MODES = ('static', 'instance')


class Small(NamedTuple):
    """How to make it, and images whose windows are of two kinds."""
    make: Callable[..., Any]
    size: tuple[int, int]

    def build(self, mode: str, classes: int = 5) -> nn.Module:
        """In evaluation mode, with masks and statistics of nothing in particular."""
        torch.manual_seed(0)
        model = self.make(merger=dict(type='LTM', ratio=0.6, mode=mode, num_classes=classes))
        for merger in mergers_of(model).values():
            merger.logits.data += torch.randn_like(merger.logits)
            if merger.stats is not None:
                merger.step.normal_()
                merger.stats.centroids.normal_()
                merger.stats.counts.fill_(3)
                merger.stats.assigned.fill_(3)
                merger.stats.label_q.copy_(torch.randn(classes, classes).softmax(1))
        model.eval()
        return model


FAMILIES = dict(
    LTMEfficientViT=Small(lambda **kwargs: LTMEfficientViT('b0', out_indices=(3, ), **kwargs), (112, 160)),
    LTMMobileViT=Small(lambda **kwargs: LTMMobileViT(
        [['mobilenetv2', 16, 2, 1, 1], ['mobilevit', 24, 2, 24, 48, 3, 2]], out_indices=(1, ), **kwargs), (112, 160)),
    LTMSwin=Small(lambda **kwargs: LTMSwin(
        dict(embed_dims=12, depths=[2, 2], num_heads=[1, 2]), out_indices=(0, ), **kwargs), (28, 40)),
    LTMSwinV2=Small(lambda **kwargs: LTMSwinV2(
        dict(embed_dims=12, depths=[2, 2], num_heads=[1, 2], extra_norm_every_n_blocks=0), window_size=4,
        out_indices=(0, ), **kwargs), (32, 48)),
    LTMViTSAM=Small(lambda **kwargs: LTMViTSAM(
        dict(embed_dims=24, num_layers=3, num_heads=2, feedforward_channels=48, global_attn_indexes=[1]),
        img_size=(56, 80), patch_size=8, window_size=4, out_channels=8, **kwargs), (56, 80)),
    LTMVisionTransformer=Small(lambda **kwargs: LTMVisionTransformer(
        dict(embed_dims=24, num_layers=3, num_heads=2, feedforward_channels=48), img_size=(56, 80), patch_size=8,
        **kwargs), (56, 80)))
