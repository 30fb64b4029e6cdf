"""Classifiers by name: ``mobilevit_s`` is the vanilla one, ``ltm_mobilevit_s`` the one with token merging.

Vanilla backbones are mmpretrain's own classes (EfficientViT: ours); what each is made of stands in ``families/``.
"""

import difflib
import fnmatch

from mmltm.errors import UserError

from .families import FAMILIES, Family, registered_type
from .mergers import Ratio, merger_type

PREFIX = 'ltm_'


def _vanilla_names() -> list[str]:
    return [name for family in FAMILIES.values() for name in family.architectures]


def list_models(pattern: str | None = None) -> list[str]:
    """Names that :func:`~mmltm.apis.model.get_model` knows.

    Args:
        pattern (str, optional): Only names that begin so, with the wildcards of a shell: 'ltm_swin', '*vit_b'.

    Returns:
        list[str]: Sorted.
    """
    names = sorted(prefix + name for name in _vanilla_names() for prefix in ('', PREFIX))
    return names if pattern is None else fnmatch.filter(names, pattern + '*')


def family_of(name: str) -> Family:
    """The family of a model, by its name with or without merging.

    Raises:
        UserError: There is none of this name; the message suggests similar ones.
    """
    for family in FAMILIES.values():
        if name.removeprefix(PREFIX) in family.architectures:
            return family
    similar = difflib.get_close_matches(name, list_models(), n=3)
    hint = f'did you mean {" or ".join(similar)}?' if similar else f'known are {", ".join(list_models())}'
    raise UserError(f'unknown model {name!r}; {hint}')


def model_config(name: str, ratio: Ratio | None = None, num_classes: int = 1000,
                 merger: dict | str | None = None) -> dict:
    """Config of mmpretrain's ``ImageClassifier``; arguments as those of :func:`~mmltm.apis.model.get_model`.

    Raises:
        UserError: For an unknown name, or a merger for a vanilla model.
    """
    family = family_of(name)
    arch, head = family.architectures[name.removeprefix(PREFIX)]
    backbone = dict(type=registered_type(family.vanilla), arch=arch)
    if name.startswith(PREFIX):
        backbone.update(type=registered_type(family.merging), merger=_with_amount(merger or 'LTM', ratio))
    elif merger is not None:
        raise UserError(f'{name} merges no tokens, got merger={merger!r}: take {PREFIX}{name}')
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=backbone,
        neck=family.neck,
        head=dict(type=family.head, num_classes=num_classes, **head),
        data_preprocessor=dict(num_classes=num_classes, **family.preprocessor))


def _with_amount(merger: dict | str, ratio: Ratio | None) -> dict:
    """A merger's config that says how many tokens are kept."""
    merger = {'type': 'LTM', **({'type': merger} if isinstance(merger, str) else merger)}
    if ratio is not None:
        if merger.setdefault('ratio', ratio) != ratio:
            raise UserError(f"ratio={ratio} and merger['ratio']={merger['ratio']}: give one of them")
    elif not any(amount in merger for amount in ('ratio', 'r', 'p')):
        merger.update(merger_type(merger).default_amount or dict(ratio=0.7))
    return merger
