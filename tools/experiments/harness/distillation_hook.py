"""Learning from another model, the vanilla one while tokens merge.

Hinton et al., "Distilling the Knowledge in a Neural Network", arXiv 1503.02531, section 2.
"""

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.hub import get_config
from torch import Tensor, nn

from mmltm.engine.hooks.extra_loss_hook import ExtraLossHook
from mmltm.engine.runner_utils import resumes
from mmltm.errors import UserError, summary
from mmltm.models.builder import build_from, vanilla_twin
from mmltm.models.checkpoints import check_tested, read_checkpoint
from mmltm.registry import HOOKS


@HOOKS.register_module()
class DistillationHook(ExtraLossHook):
    """Adds the divergence of a classifier's predictions from those of another one, as ``loss_distillation``.

        T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over the batch.

    The teacher is the config's model without merging, or that of another config, frozen and in evaluation mode. It
    sees the batch as the student does, after augmentation, and is no part of the student, hence of no checkpoint.

    Args:
        checkpoint (str, optional): Of the teacher. Defaults to ``load_from`` of the run; one that is resumed has
            none, and needs it here.
        config (str, optional): Of the teacher, with the same preprocessing. Defaults to None, the vanilla twin.
        weight (float): Factor of the term. Defaults to 1.0.
        temperature (float): T, by which logits are divided. Defaults to 1.0.
    """
    loss_name = 'loss_distillation'

    def __init__(self, checkpoint: str | None = None, config: str | None = None, weight: float = 1.0,
                 temperature: float = 1.0) -> None:
        super().__init__(weight)
        if temperature <= 0:
            raise UserError(f'temperature must be positive, got {temperature}')
        self.checkpoint, self.config, self.temperature = checkpoint, config, temperature
        self._teacher: Any = None
        self._logits: Any = None

    def watch(self, runner, model: nn.Module) -> list[Any]:
        from mmpretrain.models.classifiers import BaseClassifier
        if not isinstance(model, BaseClassifier) or not model.with_head:
            raise UserError(f'DistillationHook: {type(model).__name__} is no classifier with a head')
        checkpoint = self.checkpoint or (None if resumes(runner) else runner.cfg.get('load_from'))
        if checkpoint is None:
            raise UserError('DistillationHook: no checkpoint of the teacher: set load_from, or checkpoint of the '
                            'hook, which a resumed training needs')
        self._teacher = self._build_teacher(runner, checkpoint).to(next(model.parameters()).device)

        def take(head: nn.Module, args: tuple, output: Tensor) -> None:
            self._logits = output

        return [model.head.register_forward_hook(take)]

    def _build_teacher(self, runner, checkpoint: str) -> nn.Module:
        if self.config is None:
            model = vanilla_twin(runner.cfg)
        else:
            try:
                cfg = get_config(self.config) if '::' in self.config else Config.fromfile(self.config)
            except Exception as error:  # a config is a program: anything may be raised
                raise UserError(f'DistillationHook: cannot read config {self.config}: {summary(error)}') from error
            if cfg.get('data_preprocessor') != runner.cfg.get('data_preprocessor'):
                raise UserError(f'DistillationHook: the teacher of {self.config} wants images of another '
                                'data_preprocessor')
            model = cfg.model
        teacher = build_from(runner.cfg, model)
        check_tested(teacher, checkpoint, read_checkpoint(checkpoint), runner.logger)
        return teacher.requires_grad_(False)

    def term(self, model: nn.Module, call: dict[str, Any]) -> Tensor:
        """The divergence for the batch whose logits the student's head has just given."""
        with torch.no_grad():
            wanted = self._teacher(call['inputs'], mode='tensor')
        teacher, student = ((logits.float() / self.temperature).log_softmax(-1) for logits in (wanted, self._logits))
        self._logits = None
        return self.temperature**2 * F.kl_div(student, teacher, reduction='batchmean', log_target=True)

    def after_train(self, runner) -> None:
        super().after_train(runner)
        self._teacher = None
