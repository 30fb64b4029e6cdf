"""What is known of a family of backbones: models by name, ``apply_ltm`` and conversions follow from it."""

import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor, nn

from mmltm.errors import UserError
from mmltm.registry import MODELS

IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
POOLING = dict(type='GlobalAveragePooling')

#: A regular expression, and what its matches are replaced by, as :func:`re.sub` takes them.
Rule = tuple[str, str | Callable[[re.Match], str]]


def as_it_is(name: str, value: Tensor) -> Tensor:
    """The value."""
    return value


class Layout(NamedTuple):
    """A project's way to lay out the weights of a family.

    Attributes:
        rules (Sequence[Rule]): From the project's names to those of mmltm's classifier, applied in this order.
        adapt (Callable): Takes a name of the project's and its value, returns the value in mmltm's layout.
    """
    rules: Sequence[Rule] = ()
    adapt: Callable[[str, Tensor], Tensor] = as_it_is

    def rename(self, names: Iterable[str]) -> dict[str, str]:
        """The new name of each; one that no rule knows stays as it is."""
        renamed = {}
        for name in names:
            renamed[name] = name
            for pattern, replacement in self.rules:
                renamed[name] = re.sub(pattern, replacement, renamed[name])
        return renamed


def shifted(text: str, by: int) -> Callable[[re.Match], str]:
    """A replacement: ``text`` with a match's groups in its braces, the last of which is a number, moved by ``by``."""
    return lambda match: text.format(*match.groups()[:-1], int(match.groups()[-1]) + by)


class Architecture(NamedTuple):
    """A classifier: the backbone's ``arch``, and arguments of the head."""
    arch: str
    head: dict


@dataclass(frozen=True)
class Family:
    """Backbones that differ by their size alone.

    Attributes:
        name (str): In lower case.
        title (str): What tables call it.
        vanilla (type): Registered class of the vanilla backbone.
        merging (type): That of the backbone with token merging.
        architectures (dict): :class:`Architecture` by name of the vanilla classifier.
        head (str): Registered type of the head.
        arguments (Callable): For ``apply_ltm``: takes a vanilla backbone; returns arguments of ``merging`` that have
            shaped more than the layers, which change over as they are.
        layouts (dict): How other projects lay out its weights, by their names, as ``timm``: a :class:`Layout`, or what
            returns one for the names in a state dict.
        openmmlab (Layout): What older checkpoints of mmpretrain and mmdet need. Defaults to nothing.
        constants (str, optional): Regular expression for entries of other projects' state dicts that the model
            computes for itself.
        neck (dict, optional): Config of the neck. Defaults to None.
        preprocessor (dict): Config of the data preprocessor that the published weights were trained with. Defaults to
            ImageNet's mean and standard deviation, in RGB.
    """
    name: str
    title: str
    vanilla: type[nn.Module]
    merging: type[nn.Module]
    architectures: Mapping[str, Architecture]
    head: str
    arguments: Callable[[nn.Module], dict]
    layouts: Mapping[str, Layout | Callable[[Container[str]], Layout]] = field(default_factory=dict)
    openmmlab: Layout = Layout()
    constants: str | None = None
    neck: dict | None = None
    preprocessor: Mapping = field(default_factory=lambda: IMAGENET)


#: All families by name.
FAMILIES: dict[str, Family] = {}


def register_family(family: Family) -> Family:
    """Make a family known to ``list_models``, ``get_model``, ``apply_ltm`` and ``convert``.

    Raises:
        UserError: Its name or that of an architecture is taken.
    """
    taken = {*FAMILIES, *(name for known in FAMILIES.values() for name in known.architectures)}
    for name in (family.name, *family.architectures):
        if name in taken:
            raise UserError(f'there is a family or an architecture {name!r} already: choose another name')
    FAMILIES[family.name] = family
    return family


def registered_type(kind: type) -> str:
    """What configs call a class: 'mmpretrain.MobileViT', or 'mmltm.X' for all that is registered here."""
    own = MODELS.module_dict.get(kind.__name__) is kind
    return f'{"mmltm" if own else kind.__module__.partition(".")[0]}.{kind.__name__}'
