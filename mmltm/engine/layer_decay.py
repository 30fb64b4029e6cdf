"""Learning rates that fall from layer to layer of a plain backbone, in detectors as in classifiers."""

from collections.abc import Callable
from functools import partial
from typing import Any

from mmpretrain.engine.optimizers import LearningRateDecayOptimWrapperConstructor
from torch import nn

from mmltm.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayConstructor(LearningRateDecayOptimWrapperConstructor):
    """mmpretrain's, which asks the model for the depth of a parameter: where it does not know, its backbone is asked.

    ``paramwise_cfg=dict(layer_decay_rate=0.7)`` multiplies the learning rate of a layer by 0.7 for every one behind it;
    necks and heads keep it whole.
    """

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '',
                   get_layer_depth: Callable | None = None, **kwargs) -> None:
        if get_layer_depth is None and not hasattr(module, 'get_layer_depth') and hasattr(module, 'backbone'):
            backbone: Any = module.backbone
            get_layer_depth = partial(backbone.get_layer_depth, prefix='backbone.')
        super().add_params(params, module, prefix, get_layer_depth, **kwargs)
