"""Where in a model tokens merge."""


from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .mergers import TOKEN_MERGERS


def merging_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Token mergers of any type in a model, by name, in its order."""
    types = tuple(TOKEN_MERGERS.module_dict.values())
    return {name: module for name, module in model.named_modules() if isinstance(module, types)}


def learnable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters of token mergers that take a gradient, by name: those of frozen stages do not."""
    return {f'{name}.{key}': parameter for name, merger in merging_modules(model).items()
            for key, parameter in merger.named_parameters() if parameter.requires_grad}


def merging_norms(model: nn.Module) -> list[nn.Module]:
    """Normalisations of the stages that merge: of the modules that have mergers in ``mergers``, as a list."""
    stages = [module for module in model.modules()
              if isinstance(getattr(module, 'mergers', None), nn.ModuleList) and merging_modules(module.mergers)]
    return list(dict.fromkeys(norm for stage in stages for norm in stage.modules()
                              if isinstance(norm, (nn.LayerNorm, nn.GroupNorm, _BatchNorm))))
