"""SSD's head (Liu et al., arXiv 1512.02325), on mmdet's ``SSDHead``, which cannot predict.

mmdet's dense heads ask ``self.loss_cls`` how its scores become probabilities. ``SSDHead`` has no such attribute: it
computes its cross-entropy by a function and skips the constructor that would set one. Training works, the first
prediction raises ``AttributeError``.
"""

from mmdet.models.dense_heads import SSDHead as _SSDHead

from mmltm.registry import MODELS


@MODELS.register_module()
class SSDHead(_SSDHead):
    """mmdet's ``SSDHead``, arguments and all, with predictions: softmax scores, the background's left out."""

    #: No loss module that brings an activation of its own, so mmdet takes the softmax.
    loss_cls = None
