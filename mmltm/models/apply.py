"""Token merging for a model that is already in memory."""

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

from torch import nn

from mmltm.errors import UserError

from .families import FAMILIES, registered_type

Model = TypeVar('Model', bound=nn.Module)

#: Containers, which are kept while what they contain changes over.
_CONTAINERS = (nn.Sequential, nn.ModuleList)


def apply_ltm(model: Model, ratio: float | Sequence[float] = 0.7, **merger) -> Model:
    """A copy of a vanilla model, with token merging and the model's own weights.

    Masks start unlearnt, and all maps keep their nominal size, which weights trained without merging need.
    Layers that no output asks for are left out.

    Args:
        model (nn.Module): A backbone, or a model with one in ``backbone``: mmpretrain's ``MobileViT``,
            ``VisionTransformer`` (ViT, DeiT, DINOv2), ``ViTSAM``, ``SwinTransformer`` or ``SwinTransformerV2``, our
            ``EfficientViT``, or timm's ``VisionTransformer`` (with or without distillation) or ``Eva``. It stays as
            it is.
        ratio (float or Sequence[float]): Share of tokens that blocks keep, as the backbones take it. Defaults to 0.7.
        **merger: Other settings of the merger, as ``type='ToMe'`` or ``window=14``.

    Returns:
        nn.Module: Of the model's class (a backbone: of the class with merging; timm's: of one derived from its own), on
            its device, with its modes of training and its frozen parameters. A Runner will not draw its weights anew.

    Raises:
        UserError: For a backbone of another class, derived ones included, or one with layers that its class would not
            make.

    Examples:
        >>> import mmltm
        >>> from mmpretrain import get_model
        >>> model = mmltm.apply_ltm(get_model('deit-small_4xb256_in1k', pretrained=True), ratio=0.7)
        >>> model = mmltm.apply_ltm(timm.create_model('vit_base_patch14_dinov2', pretrained=True), ratio=0.7)
    """
    merger = {'type': 'LTM', 'ratio': ratio, **merger}
    result: Any = copy.deepcopy(model)  # Any: only some modules have a backbone
    if not isinstance(getattr(result, 'backbone', None), nn.Module):
        return _merging(result, merger)
    result.backbone = _merging(result.backbone, merger)
    result.is_init = True
    return result


def _merging(backbone: nn.Module, merger: dict) -> Any:
    """The backbone with merging, made of the given one's layers, which is used up."""
    if type(backbone).__module__.startswith('timm.'):
        from .timm_models import merge_timm
        return merge_timm(backbone, merger)
    # The very class: a derived one may compute something else with the same layers.
    family = next((family for family in FAMILIES.values() if type(backbone) is family.vanilla), None)
    if family is None:
        names = ', '.join(registered_type(family.vanilla) for family in FAMILIES.values())
        raise UserError(f'apply_ltm knows the backbones {names}, got {registered_type(type(backbone))}')
    merging: Any = family.merging(merger=merger, **family.arguments(backbone)).train(backbone.training)
    device, theirs = next(backbone.parameters()).device, backbone.state_dict()
    for name, value in merging.state_dict().items():
        if name in theirs and theirs[name].shape != value.shape:
            raise UserError(
                f'apply_ltm cannot tell how this {type(backbone).__name__} was made: {name} has shape '
                f'{tuple(theirs[name].shape)}, by its attributes it would be {tuple(value.shape)}; build '
                f'mmltm.{type(merging).__name__} with the same arguments and load its weights')
    _take_over(backbone, merging)
    merging.is_init = True
    return merging.to(device)


def _take_over(source: nn.Module, target: nn.Module) -> None:
    """Put the source's layers and parameters in the place of the target's, containers and masks aside."""
    target.training = source.training
    for name, _ in target.named_parameters(recurse=False):
        setattr(target, name, getattr(source, name))
    for name, module in target.named_children():
        if name == 'mergers':
            continue
        counterpart = getattr(source, name)
        if type(module) is type(counterpart) and not isinstance(module, _CONTAINERS):
            setattr(target, name, counterpart)
        else:
            _take_over(counterpart, module)
