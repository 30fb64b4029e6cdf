"""A copy of a model for inference alone."""

import copy
from collections import Counter
from functools import partial
from typing import Any, NoReturn, TypeVar

import torch
from mmcv.cnn import ConvModule
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mmltm.errors import UserError
from mmltm.merging import LTM
from mmltm.merging.grids import Grid
from mmltm.merging.trace import mergers_of

from .families import FAMILIES

Model = TypeVar('Model', bound=nn.Module)


def deploy(model: Model, shape: int | Grid | None = None) -> Model:
    """A copy for inference: the same outputs within 1e-5, in a smaller file, and with fewer operations.

    Masks are plain matrices, and those that follow the image know of the class statistics only what their step needs;
    batch normalisation is part of the convolution before it. Nothing of it can be trained; it can be pickled, traced,
    compiled and exported.

    Args:
        model (nn.Module): A classifier, a detector or a backbone, whose masks are its own or there are none. It stays
            as it is.
        shape (int or tuple, optional): Height and width of the images, or the side of squares, for which the masks'
            matrices are made at once. Those of other sizes are made when first needed. Defaults to None.

    Raises:
        UserError: By ``train()`` and ``loss()`` of the copy.

    Examples:
        >>> import mmltm
        >>> model = mmltm.deploy(mmltm.get_model('ltm_mobilevit_s'), shape=256)
    """
    result: Any = copy.deepcopy(model)
    result.eval()  # returns None in backbones of mmpretrain
    result.requires_grad_(False)
    for merger in mergers_of(result).values():
        if isinstance(merger, LTM):
            merger.fold()
    _fuse_norms(result)
    for name in ('train', 'loss'):
        if hasattr(result, name):
            setattr(result, name, partial(_refuse, result, name))
    if shape is not None:
        height, width = (shape, shape) if isinstance(shape, int) else shape
        kinds = tuple(family.merging for family in FAMILIES.values())
        parameter = next(result.parameters())
        for backbone in (module for module in result.modules() if isinstance(module, kinds)):
            with torch.no_grad():
                backbone(parameter.new_zeros(1, 3, height, width))
    return result


def _refuse(model: nn.Module, name: str, *args: Any, **kwargs: Any) -> NoReturn | nn.Module:
    """In the place of a method that trains; evaluation mode is nothing new."""
    if name == 'train' and not (args[0] if args else kwargs.get('mode', True)):
        return model
    raise UserError(f'this {type(model).__name__} is for inference (mmltm.deploy): train the model that it was made of')


def _fuse_norms(model: nn.Module) -> None:
    """Fold normalisations into the convolutions before them, where these serve no other norm.

    mmcv's ``fuse_conv_bn`` would fold the norms of all levels into one convolution that heads like RTMDet's share.
    """
    uses = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    for parent in list(model.modules()):
        children = list(parent.named_children())
        for (first, conv), (second, norm) in zip(children, children[1:]):
            follows = isinstance(parent, nn.Sequential) or isinstance(parent, ConvModule) and (
                parent.order[:2] == ('conv', 'norm') and not parent.with_spectral_norm)
            if (follows and isinstance(conv, (nn.Conv2d, nn.ConvTranspose2d)) and isinstance(norm, _BatchNorm)
                    and norm.running_mean is not None and uses[id(conv)] == uses[id(norm)] == 1):
                fused = fuse_conv_bn_eval(conv, norm, transpose=isinstance(conv, nn.ConvTranspose2d))
                setattr(parent, first, fused.requires_grad_(False))
                setattr(parent, second, nn.Identity())
