"""The IB bound of the pooled features as a loss term of classification heads.

The public training script of Wang and Yang, arXiv 2407.15219, adds 0.1 times the bound to the cross-entropy
after 30% of the epochs. Departures: the bound's term of the input features is left out, since it has no
gradient with respect to the pooled ones; centroids and Q come from the training steps of the epoch before,
not from a pass of their own; features are centred and normalised and beta is 10, as for the masks.
"""

from mmengine.logging import MessageHub
from mmpretrain.models.heads import ClsHead, LinearClsHead
from torch import Tensor

from mmltm.errors import UserError
from mmltm.ib import BatchTargets, ClassStatistics
from mmltm.registry import MODELS
from mmltm.structures.class_distribution import class_distribution

from .efficientvit_head import EfficientViTClsHead


class IBBoundMixin(ClsHead):
    """Adds ``loss_ib`` to the losses of a classification head with ``num_classes`` and a last layer ``fc``.

    Pooled features are what ``pre_logits`` returns. :class:`~mmltm.engine.hooks.IBStatisticsHook` must be
    among the hooks: it ends the epochs of the statistics. Until the third epoch the term is zero.

    Args:
        *args: Arguments of the head.
        ib_weight (float): Weight of the term. Defaults to 0.1.
        ib_begin (float): Share of the training after which it counts, in [0, 1]. Defaults to 0.3.
        ib_statistics (dict, optional): Arguments of :class:`~mmltm.ib.ClassStatistics`, such as ``stat_dim``
            (by default None, exact), ``beta``, ``normalize`` or ``center``.
        **kwargs: Arguments of the head.
    """

    _pooled: Tensor  # of the batch under way

    def __init__(self, *args, ib_weight: float = 0.1, ib_begin: float = 0.3, ib_statistics: dict | None = None,
                 **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if not 0 <= ib_begin <= 1:
            raise UserError(f'ib_begin is a share of the training, in [0, 1]; got {ib_begin}')
        self.ib_weight, self.ib_begin = ib_weight, ib_begin
        settings = dict(stat_dim=None, beta=10.0, normalize=True, center=True, name='head')
        self.ib_statistics = ClassStatistics(
            self.num_classes, 1, self.fc.in_features, **{**settings, **(ib_statistics or {})})

    def pre_logits(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Features before the classifier, as the head computes them; kept for the loss."""
        self._pooled = super().pre_logits(feats)
        return self._pooled

    def _get_loss(self, cls_score: Tensor, data_samples: list, **kwargs) -> dict:
        losses = super()._get_loss(cls_score, data_samples, **kwargs)
        features = self.ib_statistics.project(self._pooled[:, None])
        del self._pooled
        classes = self.num_classes
        targets = BatchTargets.of(class_distribution(data_samples, classes), classes).to(cls_score.device)
        if self.training:
            self.ib_statistics.update(features.detach(), targets)
        losses['loss_ib'] = self._weight() * self.ib_statistics.label_term(features, targets)
        return losses

    def _weight(self) -> float:
        hub = MessageHub.get_current_instance()
        if hub.get_info('loop_stage') != 'train':  # not in a Runner's hands
            return self.ib_weight
        if hub.get_info('epoch') and not self.ib_statistics.counts.any():
            raise UserError('the IB bound of the pooled features has no statistics after an epoch: add '
                            "dict(type='mmltm.IBStatisticsHook') to custom_hooks")
        progress = hub.get_info('iter') / hub.get_info('max_iters')
        return self.ib_weight if progress >= self.ib_begin else 0.0


@MODELS.register_module()
class IBLinearClsHead(IBBoundMixin, LinearClsHead):
    """mmpretrain's ``LinearClsHead`` with the IB bound as a loss term."""


@MODELS.register_module()
class IBEfficientViTClsHead(IBBoundMixin, EfficientViTClsHead):
    """``EfficientViTClsHead`` with the IB bound as a loss term."""
