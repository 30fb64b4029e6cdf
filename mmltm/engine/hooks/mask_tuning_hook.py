"""The fine-tuning set-up of the paper (section 4.1): pre-trained weights stay, only the merging learns."""

from mmengine.hooks import Hook
from torch import nn

from mmltm.engine.runner_utils import unwrapped_model, wait_for_learning_only
from mmltm.errors import UserError
from mmltm.merging.trace import mergers_of
from mmltm.models.merging_modules import learnable_parameters, merging_norms
from mmltm.registry import HOOKS


@HOOKS.register_module()
class MaskTuningHook(Hook):
    """Freezes a model but for what its token mergers can learn: one switch for fine-tuning a pre-trained model.

    That is mask logits of LTM, thresholds of LTMP, projections of soft merging. All other parameters get no gradient,
    and every module outside the mergers is in evaluation mode, so that normalisation statistics stay, too, bit for
    bit, and nothing is dropped. Modules that compute losses (detectors, classifiers, heads) keep their mode, because
    some decide by it what to compute.

    Masks learn by the loss alone; add :class:`IBStatisticsHook` for the information-bottleneck step. Start from a
    checkpoint (``load_from``).

    Args:
        norms (bool): Weights and biases of the normalisations in the merging stages learn, too (running statistics
            stay). Weights of a trained network want smaller steps than mask logits: set the optimizer's ``lr`` for
            them, and a ``lr_mult`` for '.mergers' in ``paramwise_cfg.custom_keys``. Defaults to False.
    """

    def __init__(self, norms: bool = False) -> None:
        self.norms = norms
        self._frozen: list[nn.Module] = []

    def before_train(self, runner) -> None:
        model = unwrapped_model(runner)
        learning = list(learnable_parameters(model).values())
        if not learning:
            raise UserError('MaskTuningHook: no mask to tune: the backbone needs merger=dict(type="LTM", '
                            'ratio=...), or another type that learns, with a ratio below 1, in a stage that is not '
                            'frozen')
        if self.norms:
            of_norms = [parameter for norm in merging_norms(model) for parameter in norm.parameters()
                        if parameter.requires_grad]
            if not of_norms:
                raise UserError('MaskTuningHook: norms=True, but no merging stage has a normalisation that is not '
                                'frozen: leave norms out')
            learning += of_norms
        learn = set(map(id, learning))
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) in learn)
        wait_for_learning_only(runner)
        inside = {id(module) for merger in mergers_of(model).values() for module in merger.modules()}
        self._frozen = [module for module in model.modules()
                        if id(module) not in inside and not hasattr(module, 'loss')]

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        # Loops reset the mode after the hooks of an epoch's beginning have run.
        for module in self._frozen:
            module.training = False
