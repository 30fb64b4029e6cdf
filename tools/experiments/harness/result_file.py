"""Result files: JSON that tells what was measured, by which code, with which versions and on which hardware."""

import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import mmltm
from mmltm.errors import UserError

SCHEMA = 1
#: What tells runs apart that may add to one file; all else of its environment must be the same.
_ORIGIN = ('date', 'revision', 'dirty')


def env_info(device: torch.device | None = None) -> dict[str, Any]:
    """What a result file says about its origin, without any path; ``device`` is by default a GPU if there is one.

    ``revision`` of git is None outside a repository, and ``dirty`` whether files of the repository differed from it;
    ``mmltm``, ``torch`` and ``python`` are versions, ``hardware`` the name of the device, ``threads`` those of torch.
    """
    kind = device.type if device is not None else 'cuda' if torch.cuda.is_available() else 'cpu'
    revision = _git('rev-parse', 'HEAD')
    return dict(
        revision=revision,
        dirty=bool(_git('status', '--porcelain')) if revision else None,
        mmltm=mmltm.__version__,
        torch=torch.__version__,
        python=platform.python_version(),
        device=kind,
        hardware=torch.cuda.get_device_name(device) if kind == 'cuda' else cpu_name(),
        threads=torch.get_num_threads(),
        dtype=str(torch.get_default_dtype()).removeprefix('torch.'),
        date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'))


def cpu_name() -> str:
    """Name of the processor, as the kernel gives it."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:  # other systems
        lines = []
    names = (line.partition(':')[2].strip() for line in lines if line.startswith('model name'))
    return next(names, None) or platform.processor() or platform.machine()


def _git(*arguments: str) -> str | None:
    """What git says about the repository of this package; None if there is none."""
    try:
        return subprocess.run(['git', *arguments], cwd=Path(__file__).parent, capture_output=True, text=True,
                              check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def save_result(path: str | Path, result: dict) -> None:
    """Write a result, and ``schema``, so that a reader sees the old file or the new one, never a part.

    Folders above are made. A number that is NaN or infinite, or a value that is no JSON, is a ``ValueError``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}')
    text = json.dumps({'schema': SCHEMA, **result}, indent=1, allow_nan=False)
    temporary.write_text(text + '\n')
    temporary.replace(path)


def load_result(path: str | Path) -> dict:
    """Read a result; an error if the file is none of this schema."""
    try:
        result = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f'cannot read result {path}: {error}') from error
    if not isinstance(result, dict) or result.get('schema') != SCHEMA:
        raise UserError(f'{path} is no result of schema {SCHEMA}: move it away, or choose another folder')
    return result


def command_line() -> str:
    """The command that started this process, without any folder above the repository."""
    root = Path(mmltm.__file__).parents[1]
    return 'python ' + shlex.join(argument.replace(f'{root}/', '') for argument in sys.argv)


def config_name(name: str) -> str:
    """What results call a config: its file name without suffix."""
    return Path(name.rpartition('::')[2]).stem


class ResultFile:
    """Rows of one kind, measured in one environment by one or more runs.

    The file is written after every measurement, and continued by the next run. It holds ``kind``; ``setting``, as
    :func:`env_info` gives it, without date and revision, and what the tool adds; ``runs``, one dict a run with
    ``command``, ``date``, ``revision`` and ``dirty``; and ``rows``.

    Without a ``path`` rows are in memory alone. ``key`` are the fields that tell rows apart, ``device`` is where models
    run, and ``more`` are further settings that all rows share. A file of another kind or setting is an error.
    """

    def __init__(self, path: str | Path | None, kind: str, key: Sequence[str], device: torch.device,
                 more: dict[str, Any]) -> None:
        self.path = None if path is None else Path(path)
        self.kind = kind
        self.key = key
        self.setting = dict(env_info(device), **more)
        self.run = dict(command=command_line(), **{name: self.setting.pop(name) for name in _ORIGIN})
        self.runs: list[dict] = []
        self.rows: list[dict] = []
        if self.path is None or not self.path.exists():
            return
        old = load_result(self.path)
        if old.get('kind') != kind:
            raise UserError(f'{path} is of kind {old.get("kind")!r}, not {kind!r}: choose another file')
        for name, value in self.setting.items():
            if old['setting'].get(name) != value:
                raise UserError(f'{path} was measured with {name} {old["setting"].get(name)!r}, this run has '
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
