"""Classifiers by name: what each architecture is made of, in one place.

A name is that of a vanilla classifier, as ``mobilevit_s``, or of the one with token merging, as
``ltm_mobilevit_s``. Vanilla backbones are mmpretrain's own classes (EfficientViT: ours).
"""

import difflib
import fnmatch
import logging
from collections.abc import Sequence
from typing import NamedTuple

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope

from mmltm.errors import UserError
from mmltm.models.checkpoints import check_file, compare, read_checkpoint, state_dict
from mmltm.registry import MODELS

PREFIX = 'ltm_'
_POOLING = dict(type='GlobalAveragePooling')
_IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)


class Family(NamedTuple):
    """What the architectures of a family share.

    Attributes:
        vanilla (str): Registered type of the vanilla backbone.
        merging (str): That of the backbone with token merging.
        neck (dict, optional): Config of the neck.
        head (str): Registered type of the head.
        preprocessor (dict): Config of the data preprocessor that the published weights were trained with.
    """
    vanilla: str
    merging: str
    neck: dict | None
    head: str
    preprocessor: dict


class Architecture(NamedTuple):
    """A classifier: its family, the backbone's ``arch``, and arguments of the head."""
    family: str
    arch: str
    head: dict


FAMILIES = dict(
    mobilevit=Family(
        'mmpretrain.MobileViT', 'mmltm.LTMMobileViT', _POOLING, 'LinearClsHead',
        dict(mean=[0, 0, 0], std=[255, 255, 255], to_rgb=False)),
    efficientvit=Family(
        'mmltm.EfficientViT', 'mmltm.LTMEfficientViT', None, 'mmltm.EfficientViTClsHead', _IMAGENET),
    vit=Family(
        'mmpretrain.VisionTransformer', 'mmltm.LTMVisionTransformer', None, 'VisionTransformerClsHead',
        _IMAGENET),
    swin=Family('mmpretrain.SwinTransformer', 'mmltm.LTMSwin', _POOLING, 'LinearClsHead', _IMAGENET),
)

ARCHITECTURES = dict(
    mobilevit_xxs=Architecture('mobilevit', 'xx_small', dict(in_channels=320)),
    mobilevit_xs=Architecture('mobilevit', 'x_small', dict(in_channels=384)),
    mobilevit_s=Architecture('mobilevit', 'small', dict(in_channels=640)),
    efficientvit_b0=Architecture('efficientvit', 'b0', dict(in_channels=128, hidden_channels=(1024, 1280))),
    efficientvit_b1=Architecture('efficientvit', 'b1', dict(in_channels=256, hidden_channels=(1536, 1600))),
    efficientvit_b2=Architecture('efficientvit', 'b2', dict(in_channels=384, hidden_channels=(2304, 2560))),
    efficientvit_b3=Architecture('efficientvit', 'b3', dict(in_channels=512, hidden_channels=(2304, 2560))),
    vit_t=Architecture('vit', 'deit-tiny', dict(in_channels=192)),
    vit_s=Architecture('vit', 'deit-small', dict(in_channels=384)),
    vit_b=Architecture('vit', 'deit-base', dict(in_channels=768)),
    swin_t=Architecture('swin', 'tiny', dict(in_channels=768)),
    swin_s=Architecture('swin', 'small', dict(in_channels=768)),
    swin_b=Architecture('swin', 'base', dict(in_channels=1024)),
)


def list_models(pattern: str | None = None) -> list[str]:
    """Names that :func:`get_model` knows.

    Args:
        pattern (str, optional): Only names that begin so, with the wildcards of a shell: 'ltm_swin', '*vit_b'.

    Returns:
        list[str]: Sorted.
    """
    names = sorted([*ARCHITECTURES, *(PREFIX + name for name in ARCHITECTURES)])
    return names if pattern is None else fnmatch.filter(names, pattern + '*')


def architecture(name: str) -> Architecture:
    """The architecture of a name, with or without merging.

    Raises:
        UserError: There is none; the message suggests similar names.
    """
    if name in list_models():
        return ARCHITECTURES[name.removeprefix(PREFIX)]
    similar = difflib.get_close_matches(name, list_models(), n=3)
    hint = f'did you mean {" or ".join(similar)}?' if similar else f'known are {", ".join(list_models())}'
    raise UserError(f'unknown model {name!r}; {hint}')


def model_config(name: str, ratio: float | Sequence[float] = 0.7, num_classes: int = 1000) -> dict:
    """Config of mmpretrain's ``ImageClassifier``; arguments as those of :func:`get_model`."""
    family_name, arch, head = architecture(name)
    family = FAMILIES[family_name]
    backbone = dict(type=family.vanilla, arch=arch)
    if name.startswith(PREFIX):
        backbone.update(type=family.merging, merger=dict(type='LTM', ratio=ratio))
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=backbone,
        neck=family.neck,
        head=dict(type=family.head, num_classes=num_classes, **head),
        data_preprocessor=dict(num_classes=num_classes, **family.preprocessor))


def build(config: dict) -> BaseModel:
    """The classifier or backbone of a config whose types are mmpretrain's where nothing else is said."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(config)


def get_model(name: str,
              ratio: float | Sequence[float] = 0.7,
              num_classes: int = 1000,
              checkpoint: str | None = None,
              **kwargs) -> BaseModel:
    """A classifier by its name.

    The data preprocessor is that of the published weights: ImageNet's mean and standard deviation in RGB, for
    MobileViT pixels over 255 in BGR. Weights that were trained otherwise (timm's ``augreg`` ViTs) need
    ``data_preprocessor=dict(mean=..., std=...)``.

    Args:
        name (str): As :func:`list_models` gives it.
        ratio (float or Sequence[float]): Share of tokens that blocks keep, as the backbones take it. A vanilla
            model, ``name`` without ``ltm_``, has none and ignores it. Defaults to 0.7.
        num_classes (int): Number of classes. Defaults to 1000.
        checkpoint (str, optional): Path or URL of weights to load, of this model or its vanilla twin, with a
            head of any size. Without it weights are as torch draws them; ``model.init_weights()`` draws them as
            a training does. Defaults to None.
        **kwargs: Merged into the model's config, as ``backbone=dict(img_size=384, merger=dict(window=14))``; weights
            of a MobileViT that was trained to let its smaller maps flow on need ``backbone=dict(restore='none')``.

    Returns:
        ImageClassifier: mmpretrain's, in evaluation mode.

    Raises:
        UserError: For an unknown name, or a checkpoint that lacks parts of the backbone other than masks.

    Examples:
        >>> import mmltm, torch
        >>> model = mmltm.get_model('ltm_mobilevit_xxs', ratio=0.7, num_classes=10)
        >>> model(torch.zeros(1, 3, 224, 224)).shape
        torch.Size([1, 10])
    """
    config = Config(dict(model=model_config(name, ratio, num_classes)))
    config.merge_from_dict(dict(model=kwargs))
    if checkpoint is not None:
        check_file('checkpoint', checkpoint)
    model = build(config.model)
    if checkpoint is not None:
        load_weights(model, checkpoint)
    return model.eval()


def load_weights(model: BaseModel, checkpoint: str) -> None:
    """Load a classifier's weights and log which keys do not match.

    Missing masks start unlearnt. A head of another size, or none, leaves the model's own as it is.

    Raises:
        UserError: Parts of the backbone other than masks are missing or differ in shape.
    """
    difference = compare(model, state_dict(read_checkpoint(checkpoint)))
    masks = [key for key in difference.missing if '.mergers.' in key]
    difference = difference._replace(missing=[key for key in difference.missing if key not in masks])
    if any(key.startswith('backbone.') for key in difference.missing + difference.mismatched):
        raise UserError(
            f'checkpoint {checkpoint} does not fit the model: {difference}; weights of timm, mit-han-lab or mmdet '
            'need tools/model_converters/convert_weights.py first')
    if masks:
        print_log(f'Checkpoint {checkpoint} has no masks: token merging starts unlearnt', 'current')
    if difference.missing or difference.mismatched or difference.unexpected:
        print_log(f'Checkpoint {checkpoint}: {difference}', 'current', logging.WARNING)
    # A Runner would draw all weights anew otherwise.
    model.is_init = True
