"""What of a model's token merging can learn."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmltm.merging.trace import mergers_of


def learnable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters of token mergers that take a gradient, by name: those of frozen stages do not."""
    return {f'{name}.{key}': parameter for name, merger in mergers_of(model).items()
            for key, parameter in merger.named_parameters() if parameter.requires_grad}


def merging_norms(model: nn.Module) -> list[nn.Module]:
    """Normalisations of the stages that merge: of the modules that have mergers in ``mergers``, as a list."""
    lists = ((module, getattr(module, 'mergers', None)) for module in model.modules())
    stages = [module for module, mergers in lists if isinstance(mergers, nn.ModuleList) and mergers_of(mergers)]
    return list(dict.fromkeys(norm for stage in stages for norm in stage.modules()
                              if isinstance(norm, (nn.LayerNorm, nn.GroupNorm, _BatchNorm))))
