"""Shows :class:`mmltm.evaluation.IBMetric` the model, which mmengine's metrics do not see."""

from mmengine.hooks import Hook

from mmltm.engine.runner_utils import unwrapped_model
from mmltm.evaluation import IBMetric
from mmltm.registry import HOOKS


@HOOKS.register_module()
class IBMetricHook(Hook):
    """Runs the first of the two passes of every :class:`~mmltm.evaluation.IBMetric` before an evaluation.

    With ``val_evaluator`` or ``test_evaluator`` as ``dict(type='mmltm.IBMetric')``, alone or among others,
    add ``dict(type='mmltm.IBMetricHook')`` to ``custom_hooks``. It does nothing for other metrics.
    """

    def before_val_epoch(self, runner) -> None:
        self._first_passes(runner, runner.val_loop)

    def before_test_epoch(self, runner) -> None:
        self._first_passes(runner, runner.test_loop)

    def _first_passes(self, runner, loop) -> None:
        for metric in loop.evaluator.metrics:
            if isinstance(metric, IBMetric):
                metric.first_pass(unwrapped_model(runner), loop.dataloader, loop.fp16)
