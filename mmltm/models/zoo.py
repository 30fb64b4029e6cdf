"""Classifiers by name: ``mobilevit_s`` is the vanilla one, ``ltm_mobilevit_s`` the one with token merging.

Vanilla backbones are mmpretrain's own classes (EfficientViT: ours); what each is made of stands in ``families/``.
"""

import difflib
import fnmatch

from mmltm.errors import UserError

from .families import FAMILIES, Family, registered_type
from .mergers import Ratio, merger_config, merger_type

PREFIX = 'ltm_'


def list_models(pattern: str | None = None) -> list[str]:
    """Names that :func:`~mmltm.apis.model.get_model` knows, sorted.

    Args:
        pattern (str, optional): Only names that begin so, with the wildcards of a shell: 'ltm_swin', '*vit_b'.
    """
    names = sorted(prefix + name for family in FAMILIES.values() for name in family.architectures
                   for prefix in ('', PREFIX))
    return names if pattern is None else fnmatch.filter(names, pattern + '*')


def family_of(name: str) -> Family:
    """The family of a model, by its name with or without merging. A UserError suggests names like an unknown one."""
    for family in FAMILIES.values():
        if name.removeprefix(PREFIX) in family.architectures:
            return family
    similar = difflib.get_close_matches(name, list_models(), n=3)
    hint = f'did you mean {" or ".join(similar)}?' if similar else f'known are {", ".join(list_models())}'
    raise UserError(f'unknown model {name!r}; {hint}')


def model_config(name: str, ratio: Ratio | None = None, num_classes: int = 1000,
                 merger: dict | str | None = None) -> dict:
    """Config of mmpretrain's ``ImageClassifier``; arguments and errors as of :func:`~mmltm.apis.model.get_model`."""
    family = family_of(name)
    arch, head, arguments = family.architectures[name.removeprefix(PREFIX)]
    backbone: dict = dict(arguments, type=registered_type(family.vanilla), arch=arch)
    if name.startswith(PREFIX):
        merger = {'type': 'LTM', **(dict(type=merger) if isinstance(merger, str) else merger or {})}
        if ratio is None and not merger.keys() & {'ratio', 'r', 'p'} and not merger_type(merger).default_amount:
            ratio = 0.7
        backbone.update(type=registered_type(family.merging), merger=merger_config(merger, ratio))
    elif merger is not None:
        raise UserError(f'{name} merges no tokens, got merger={merger!r}: take {PREFIX}{name}')
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=backbone,
        neck=family.neck,
        head=dict(type=family.head, num_classes=num_classes, **head),
        data_preprocessor=dict(num_classes=num_classes, **family.preprocessor))
