"""Running many cells, one after another, each of which is safe on disk before the next begins."""

import gc
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mmltm.apis.env_info import setting
from mmltm.apis.results import FOLDERS, load_result, save_result
from mmltm.errors import UserError, summary

from .cell import Cell
from .feasibility import check_cells
from .identity import identity
from .run_cell import run_cell


def run_cells(cells: Sequence[Cell],
              out_dir: Path,
              data_root: str | None = None,
              batch_size: int = 16,
              ib: bool = False,
              overwrite: bool = False) -> list[Cell]:
    """Run the cells that have no result yet, and write a result for each.

    Cells that the backbone refuses get a result that says so, and so do cells that fail, which are tried again by the
    next call; ``work_dirs/<key>/traceback.txt`` says where they failed. Where ``ib`` asks for IB loss and bound,
    results without them are made anew, from the trained weights.

    Args:
        cells (Sequence[Cell]): What to run, of one or several configs.
        out_dir (Path): Folder of results.
        data_root, batch_size, ib: See :func:`~harness.run_cell.run_cell`.
        overwrite (bool): Replace results of other settings, rather than refuse. Defaults to False.

    Returns:
        list[Cell]: Those that have come to a result, now or earlier, in the given order.

    Raises:
        UserError: Something is wrong that would make cells fail; before any of them runs.
    """
    cells, impossible = check_cells(cells, data_root)
    pending = [cell for cell in cells if not _is_done(cell, out_dir, ib, overwrite)]
    for cell in pending:
        if cell.key in impossible:
            _save_reason(cell, out_dir, 'impossible', impossible[cell.key])
    pending = [cell for cell in pending if cell.key not in impossible]
    console = Console(file=sys.stdout)  # the very file, because a cell sends what else is printed nowhere
    console.print(f'{len(cells)} cells, {len(pending)} of them to run', highlight=False)
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        overall = progress.add_task('cells', total=len(pending))
        for cell in pending:
            task = progress.add_task(cell.key, total=None)
            outcome = _run_safely(
                cell, out_dir, data_root, batch_size, ib,
                lambda done, total, task=task: progress.update(task, completed=done, total=total))
            progress.remove_task(task)
            progress.advance(overall)
            console.print(f'{cell.key}: {outcome}', highlight=False, markup=False, soft_wrap=True)
    return [cell for cell in cells if _status(cell, out_dir) == 'done']


def result_path(cell: Cell, out_dir: Path) -> Path:
    """The file of a cell's result."""
    return Path(out_dir) / FOLDERS['cell'] / f'{cell.key}.json'


def _run_safely(cell: Cell, out_dir: Path, *args) -> str:
    """Run a cell, write its result or its failure, and say in a few words what has come of it."""
    try:
        result = run_cell(cell, out_dir, *args)
        save_result(result_path(cell, out_dir), result)
    except Exception as error:  # of whatever kind: the other cells shall run
        _save_reason(cell, out_dir, 'failed', summary(error))
        traceback_file = Path(out_dir) / 'work_dirs' / cell.key / 'traceback.txt'
        traceback_file.parent.mkdir(parents=True, exist_ok=True)
        traceback_file.write_text(traceback.format_exc())
        return f'failed, {summary(error)}'
    finally:
        gc.collect()  # the workers of its loaders
    values = ', '.join(f'{name} {value:.4g}' for name, value in result['metrics'].items())
    return f'{values} in {result["wall_time_s"]:.0f} s'


def _save_reason(cell: Cell, out_dir: Path, status: str, error: str) -> None:
    """Write why there is no result, with names for absolute paths."""
    error = re.sub(r'(?<![\w.])/(?:[^\s/\'"]+/)+', '', error)
    save_result(result_path(cell, out_dir), dict(
        identity(cell), kind='cell', status=status, error=error, setting=setting()))


def _status(cell: Cell, out_dir: Path) -> str | None:
    path = result_path(cell, out_dir)
    return load_result(path)['status'] if path.is_file() else None


def _is_done(cell: Cell, out_dir: Path, ib: bool, overwrite: bool) -> bool:
    """Whether there is a result of these settings."""
    if _status(cell, out_dir) != 'done':
        return False
    path = result_path(cell, out_dir)
    result, known = load_result(path), identity(cell)
    differing = [name for name, value in known.items() if result[name] != value]
    if differing and not overwrite:
        raise UserError(f'{path} is a result of other settings ({", ".join(differing)}): choose another folder, or '
                        'say that it shall be overwritten (--overwrite)')
    return not differing and not (ib and result['ib'] is None)
