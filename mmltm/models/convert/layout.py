"""How other projects lay out weights: rules for the names, and what else it takes."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from torch import Tensor

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
