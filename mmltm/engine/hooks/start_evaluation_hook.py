"""What merging costs before its masks have learnt anything (LTM paper, Table 1)."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import autocast

from mmltm.engine.runner_utils import unwrapped_model
from mmltm.merging.trace import mergers_of
from mmltm.registry import HOOKS


@HOOKS.register_module()
class StartEvaluationHook(Hook):
    """Evaluates a pre-trained model on the validation set before the first step, without merging and with it.

    Both lines of metrics go to the log, in front of those of the epochs. They take no part in the choice of the best
    checkpoint, and a resumed run does not repeat them.
    """

    priority = 'VERY_LOW'  # after the hooks that freeze weights and set up statistics

    def before_train(self, runner) -> None:
        mergers = list(mergers_of(unwrapped_model(runner)).values())
        if runner.iter or runner.val_loop is None:
            return
        active = [merger.active for merger in mergers]
        for title, merging in (('without merging', [False] * len(mergers)), ('with merging', active)):
            for merger, on in zip(mergers, merging):
                merger.active = on
            values = ', '.join(f'{name}: {value:.4f}' for name, value in self._evaluate(runner).items())
            runner.logger.info(f'Before training, {title}: {values}')

    @staticmethod
    @torch.no_grad()
    def _evaluate(runner) -> dict[str, float]:
        # Not val_loop.run(), whose hooks would take the vanilla model for the best of this training.
        loop, training = runner.val_loop, runner.model.training
        runner.model.eval()
        for batch in loop.dataloader:
            with autocast(enabled=loop.fp16):
                outputs = runner.model.val_step(batch)
            loop.evaluator.process(data_samples=outputs, data_batch=batch)
        runner.model.train(training)
        return loop.evaluator.evaluate(len(loop.dataloader.dataset))
