"""Classification head of EfficientViT (Cai et al., arXiv 2205.14756)."""

from collections.abc import Sequence

import torch.nn as nn
from mmcv.cnn import ConvModule, build_activation_layer
from mmpretrain.models.heads import ClsHead
from torch import Tensor

from mmltm.errors import UserError
from mmltm.registry import MODELS


@MODELS.register_module()
class EfficientViTClsHead(ClsHead):
    """Pointwise convolution, global average pooling, hidden layer with LayerNorm, linear classifier.

    Args:
        num_classes (int): Number of classes.
        in_channels (int): Channels of the backbone's last map (B0 to B3: 128, 256, 384, 512).
        hidden_channels (Sequence[int]): Width of the convolution and of the hidden layer. B0: (1024, 1280),
            B1: (1536, 1600), B2 and B3: (2304, 2560). Defaults to (1536, 1600).
        dropout (float): Probability, before the classifier. Defaults to 0.
        norm_cfg (dict): Config of the normalisation behind the convolution. Defaults to ``dict(type='BN')``.
        act_cfg (dict): Config of the activations. Defaults to ``dict(type='HSwish')``.
        **kwargs: Arguments of mmpretrain's ``ClsHead`` (``loss``, ``topk``, ``cal_acc``).
    """

    def __init__(self, num_classes: int, in_channels: int, hidden_channels: Sequence[int] = (1536, 1600),
                 dropout: float = 0., norm_cfg: dict = dict(type='BN'), act_cfg: dict = dict(type='HSwish'),
                 init_cfg: dict | None = dict(type='TruncNormal', layer='Linear', std=0.02),
                 **kwargs) -> None:
        super().__init__(init_cfg=init_cfg, **kwargs)
        if num_classes <= 0:
            raise UserError(f'num_classes must be positive, got {num_classes}')
        width, hidden = hidden_channels
        self.num_classes, self.in_channels = num_classes, in_channels
        self.conv = ConvModule(in_channels, width, 1, norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.hidden = nn.Sequential(
            nn.Linear(width, hidden, bias=False), nn.LayerNorm(hidden), build_activation_layer(act_cfg))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(hidden, num_classes)

    def pre_logits(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Features before the classifier, (B, hidden_channels[1]), from the last of ``feats`` (B, C, H, W)."""
        return self.hidden(self.conv(feats[-1]).mean((2, 3)))

    def forward(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Logits, (B, num_classes)."""
        return self.fc(self.dropout(self.pre_logits(feats)))
