"""The fine-tuning set-up of the paper (section 4.1): pre-trained weights stay, only the masks learn."""

from typing import List

from mmengine.hooks import Hook
from torch import nn

from mmltm.engine.run_queries import require_unused_parameters, unwrapped_model
from mmltm.merging import LTM
from mmltm.registry import HOOKS
from mmltm.utils.errors import UserError


@HOOKS.register_module()
class MaskTuningHook(Hook):
    """Freezes a model but for its mask logits: one switch for fine-tuning a pre-trained model.

    All other parameters get no gradient, and every module outside the masks is in evaluation mode, so that
    normalisation statistics stay, too, bit for bit, and nothing is dropped. Modules that compute losses
    (detectors, classifiers, heads) keep their mode, because some decide by it what to compute.

    Masks learn by the loss alone; add :class:`IBStatisticsHook` for the information-bottleneck step. Start
    from a checkpoint (``load_from``). With several processes set ``find_unused_parameters=True`` in the
    config: the model has been wrapped before any hook runs.

    Raises:
        UserError: The model has no mask that can learn, or its wrapper waits for a gradient of every
            parameter.
    """

    def __init__(self) -> None:
        self._frozen: List[nn.Module] = []

    def before_train(self, runner) -> None:
        """Freezes the parameters."""
        model = unwrapped_model(runner)
        masks = [module for module in model.modules() if isinstance(module, LTM)]
        logits = {id(mask.logits) for mask in masks if mask.logits.requires_grad}
        if not logits:
            raise UserError('MaskTuningHook: no mask to tune: the backbone needs merger=dict(type="LTM", '
                            'ratio=...) with a ratio below 1, in a stage that is not frozen')
        require_unused_parameters(runner, 'frozen weights (MaskTuningHook)')
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) in logits)
        inside = {id(module) for mask in masks for module in mask.modules()}
        self._frozen = [module for module in model.modules()
                        if id(module) not in inside and not hasattr(module, 'loss')]

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Sets the mode, which loops reset after the hooks of an epoch's beginning have run."""
        for module in self._frozen:
            module.training = False
