"""Numbers of the paper itself, which tables set beside ours and mark as the paper's."""

import json
from collections.abc import Sequence
from pathlib import Path


class Paper:
    """The paper's numbers.

    Args:
        path (Path): File with ``entries``, each with ``table`` (its number in the paper, null if unknown), ``model``,
            ``pixels`` (height) and ``ratio``, and one or more of ``gmacs``, ``vanilla_gmacs`` and ``macs_ratio``.
    """

    def __init__(self, path: Path):
        self._entries: list[dict] = json.loads(path.read_text())['entries']

    def find(self, model: str, shape: Sequence[int], ratio: float | None, field: str) -> dict | None:
        """The entry of a model that says ``field``, if there is one."""
        return next((entry for entry in self._entries
                     if entry['model'] == model and entry['pixels'] == shape[0] and entry['ratio'] == ratio
                     and field in entry), None)


def heading(text: str, entries: Sequence[dict | None]) -> str:
    """Heading of a column or row of the paper's numbers, with the tables that they stand in."""
    numbers = sorted({entry['table'] for entry in entries if entry and entry['table']})
    return f"the paper's {text}" + (f" (its Table {', '.join(numbers)})" if numbers else '')
