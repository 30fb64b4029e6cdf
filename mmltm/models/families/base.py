"""What is known of a family of backbones: models by name, ``apply_ltm`` and conversions follow from it."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, NamedTuple

from torch import Tensor, nn

from mmltm.errors import UserError
from mmltm.registry import MODELS

IMAGENET = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
POOLING = dict(type='GlobalAveragePooling')

#: A regular expression, and what its matches are replaced by, as :func:`re.sub` takes them.
Rule = tuple[str, str | Callable[[re.Match], str]]


class Layout(NamedTuple):
    """A project's way to lay out the weights of a family."""
    #: From the project's names to those of mmltm's classifier, applied in this order.
    rules: Sequence[Rule] = ()
    #: Takes a name of the project's and its value, returns the value in mmltm's layout.
    adapt: Callable[[str, Tensor], Tensor] = lambda name, value: value

    def rename(self, names: Iterable[str]) -> dict[str, str]:
        """The new name of each; one that no rule knows stays as it is."""
        return {name: reduce(lambda text, rule: re.sub(rule[0], rule[1], text), self.rules, name) for name in names}


def shifted(text: str, by: int) -> Callable[[re.Match], str]:
    """A replacement: ``text`` with a match's groups in its braces, the last of which is a number, moved by ``by``."""
    return lambda match: text.format(*match.groups()[:-1], int(match.groups()[-1]) + by)


def attributes(module: nn.Module, *names: str) -> dict[str, Any]:
    """Arguments that a module keeps under their own names."""
    return {name: getattr(module, name) for name in names}


class Architecture(NamedTuple):
    """A classifier: the backbone's ``arch``, and arguments of the head and, as its weights want them, the backbone."""
    arch: str
    head: dict
    backbone: Mapping = {}


@dataclass(frozen=True)
class Family:
    """Backbones that differ by their size alone."""
    name: str  # in lower case
    vanilla: type[nn.Module]  # registered class of the vanilla backbone
    merging: type[nn.Module]  # that of the backbone with token merging
    architectures: dict[str, Architecture]  # by name of the vanilla classifier
    head: str  # registered type of the head
    #: For ``apply_ltm``: takes a vanilla backbone; returns arguments of ``merging`` that have shaped more than the
    #: layers, which change over as they are.
    arguments: Callable[[Any], dict]
    #: How other projects lay out its weights, by their names, as ``timm``, perhaps by the names in a state dict.
    layouts: Mapping[str, Layout | Callable[[Collection[str]], Layout]] = field(default_factory=dict)
    openmmlab: Layout = Layout()  # what older checkpoints of mmpretrain and mmdet need
    constants: str | None = None  # matches entries of other state dicts that the model computes for itself
    neck: dict | None = None  # its config
    preprocessor: Mapping = field(default_factory=lambda: IMAGENET)  # config, as the published weights want it


#: All families by name.
FAMILIES: dict[str, Family] = {}


def register_family(family: Family) -> None:
    """Make a family known to ``list_models``, ``get_model``, ``apply_ltm`` and ``convert``, unless a name is taken."""
    taken = {*FAMILIES, *(name for known in FAMILIES.values() for name in known.architectures)}
    for name in (family.name, *family.architectures):
        if name in taken:
            raise UserError(f'there is a family or an architecture {name!r} already: choose another name')
    FAMILIES[family.name] = family


def registered_type(kind: type) -> str:
    """What configs call a class: 'mmpretrain.MobileViT', or 'mmltm.X' for all that is registered here."""
    own = MODELS.module_dict.get(kind.__name__) is kind
    return f'{"mmltm" if own else kind.__module__.partition(".")[0]}.{kind.__name__}'
