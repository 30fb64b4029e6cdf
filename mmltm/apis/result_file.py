"""Files of measured rows: written after every measurement, and continued by the next run."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import mmltm
from mmltm.apis.env_info import setting
from mmltm.apis.results import load_result, save_result
from mmltm.errors import UserError

#: What tells runs apart that may add to one file; all else of a setting must be the same.
_ORIGIN = ('date', 'revision', 'dirty')


def command_line() -> str:
    """The command that started this process, without any folder above the repository."""
    root = Path(mmltm.__file__).parents[1]
    return 'python ' + shlex.join(argument.replace(f'{root}/', '') for argument in sys.argv)


def config_name(name: str) -> str:
    """What results call a config: its file name without suffix."""
    return Path(name.rpartition('::')[2]).stem


class ResultFile:
    """Rows of one kind, measured under one setting by one or more runs.

    The JSON file holds ``kind``; ``setting``, as :func:`mmltm.apis.env_info` gives it, without date and
    revision, and what the tool adds; ``runs``, one dict a run with ``command``, ``date``, ``revision`` and ``dirty``
    (whether files differed from it); and ``rows``.

    Args:
        path (str or Path, optional): None keeps the rows in memory alone.
        kind (str): What the rows are.
        key (Sequence[str]): Fields that tell rows apart.
        device (torch.device): Where models run.
        more (dict): Further settings that all rows of the file share.

    Raises:
        UserError: The file exists and is of another kind, or of another setting.
    """

    def __init__(self, path: str | Path | None, kind: str, key: Sequence[str], device: torch.device,
                 more: dict[str, Any]):
        self.path = path and Path(path)
        self.kind = kind
        self.key = key
        self.setting = dict(setting(device), **more)
        self.run = dict(command=command_line(), **{name: self.setting.pop(name) for name in _ORIGIN})
        self.runs: list[dict] = []
        self.rows: list[dict] = []
        if self.path is not None and self.path.exists():
            self._read()

    def _read(self) -> None:
        old = load_result(self.path)
        if old.get('kind') != self.kind:
            raise UserError(f'{self.path} is of kind {old.get("kind")!r}, not {self.kind!r}: choose another file')
        for name, value in self.setting.items():
            if old['setting'].get(name) != value:
                raise UserError(f'{self.path} was measured with {name} {old["setting"].get(name)!r}, this run has '
                                f'{value!r}: choose another file or remove it')
        self.runs, self.rows = old['runs'], old['rows']

    def _key(self, row: dict) -> list:
        return [row[name] for name in self.key]

    def has(self, **row) -> bool:
        """Whether there is a row with the key that ``row`` gives, all of it."""
        return self._key(row) in map(self._key, self.rows)

    def add(self, rows: Sequence[dict]) -> None:
        """Add rows, in place of those with the same key, and save."""
        new = [self._key(row) for row in rows]
        self.rows = [row for row in self.rows if self._key(row) not in new] + list(rows)
        if self.run not in self.runs:
            self.runs.append(self.run)
        if self.path is not None:
            save_result(self.path, dict(kind=self.kind, setting=self.setting, runs=self.runs, rows=self.rows))
