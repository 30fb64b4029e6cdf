"""Running many cells, one after another or several at a time, each safe on disk before the next begins."""

import argparse
import gc
import multiprocessing
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path

import torch
from mmengine.utils import import_modules_from_strings
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mmltm.errors import UserError, summary

from .cell import Cell
from .dry_run import dry_run
from .resolve import ResolvedCell
from .result_file import env_info, load_result, save_result
from .run_cell import Tick, run_cell


def add_jobs_argument(parser: argparse.ArgumentParser) -> None:
    """Adds ``--jobs``."""
    parser.add_argument('--jobs', type=positive, default=1, metavar='N', help='cells at a time; default: 1')


def positive(text: str) -> int:
    """A number of at least 1, as the type of an argument."""
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f'{text} is no positive number')
    return int(text)


def run_cells(cells: Sequence[Cell],
              out_dir: Path,
              data_root: str | None = None,
              batch_size: int = 16,
              ib: bool = False,
              overwrite: bool = False,
              jobs: int = 1) -> list[ResolvedCell]:
    """Run the cells that have no result yet, and write a result for each.

    Cells that the backbone refuses get a result that says so, and so do cells that fail, which are tried again by the
    next call; ``work_dirs/<key>/traceback.txt`` says where they failed. Where ``ib`` asks for IB loss and bound,
    results without them are made anew, from the trained weights.

    Args:
        cells (Sequence[Cell]): What to run, of one or several configs.
        out_dir (Path): Folder of results.
        data_root (str, optional): Folder that every data set shall read from.
        batch_size, ib: See :func:`~harness.run_cell.run_cell`.
        overwrite (bool): Replace results of other settings, rather than refuse. Defaults to False.
        jobs (int): Cells at a time. More than one run in processes of their own, which share the threads of this one.
            Defaults to 1.

    Returns:
        list[ResolvedCell]: Those that have come to a result, now or earlier, in the given order.

    Raises:
        UserError: Something is wrong that would make cells fail; before any of them runs.
    """
    resolved, impossible = dry_run(cells, out_dir, data_root)
    pending = [cell for cell in resolved if not _is_done(cell, ib, overwrite)]
    for cell in pending:
        if cell.key in impossible:
            _save_reason(cell, 'impossible', impossible[cell.key])
    pending = [cell for cell in pending if cell.key not in impossible]
    console = Console(file=sys.stdout)  # the very file, because a cell sends what else is printed nowhere
    console.print(f'{len(resolved)} cells, {len(pending)} of them to run', highlight=False)
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        overall = progress.add_task('cells', total=len(pending))
        tasks = {}

        def tick(cell: ResolvedCell, done: int | None, total: int | None) -> None:
            if cell.key not in tasks:
                tasks[cell.key] = progress.add_task(cell.key, total=None)
            progress.update(tasks[cell.key], completed=done, total=total)

        run_all = _one_by_one if jobs == 1 else _in_processes
        for cell, outcome in run_all(pending, jobs, tick, batch_size, ib):
            progress.remove_task(tasks.pop(cell.key))
            progress.advance(overall)
            console.print(f'{cell.key}: {outcome}', highlight=False, markup=False, soft_wrap=True)
    return [cell for cell in resolved if _status(cell) == 'done']


#: Called with a cell and the numbers of its steps that are done and of all; None where they are not known yet.
CellTick = Callable[[ResolvedCell, int | None, int | None], None]


def _one_by_one(cells: Sequence[ResolvedCell], jobs: int, tick: CellTick,
                *args) -> Iterator[tuple[ResolvedCell, str]]:
    for cell in cells:
        tick(cell, None, None)
        yield cell, _run_safely(cell, *args, lambda done, total, cell=cell: tick(cell, done, total))


def _in_processes(cells: Sequence[ResolvedCell], jobs: int, tick: CellTick,
                  *args) -> Iterator[tuple[ResolvedCell, str]]:
    """A process a cell, so that one that is killed ends no other; none outlives this one's interruption."""
    context, waiting = multiprocessing.get_context('spawn'), list(cells)
    threads = max(1, torch.get_num_threads() // jobs)
    running: dict[Connection, tuple[ResolvedCell, multiprocessing.process.BaseProcess]] = {}
    outcomes: dict[str, str] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                cell = waiting.pop(0)
                tick(cell, None, None)
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_run_and_tell, args=(sender, threads, cell, *args))
                process.start()
                sender.close()  # so that the end of the process ends what is received
                running[receiver] = cell, process
            for receiver in wait(list(running)):
                cell, process = running[receiver]
                try:
                    message = receiver.recv()
                except EOFError:
                    process.join()
                    del running[receiver]
                    yield cell, outcomes.get(cell.key) or _fail(cell, f'its process has ended with {process.exitcode}')
                else:
                    if isinstance(message, str):
                        outcomes[cell.key] = message
                    else:
                        tick(cell, *message)
    finally:
        for _, process in running.values():
            process.terminate()


def _run_and_tell(sender: Connection, threads: int, cell: ResolvedCell, *args) -> None:
    """In a process of its own: run a cell, and send every step and, at last, the outcome."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interruption is for the first process to handle
    torch.set_num_threads(threads)
    import_modules_from_strings(**cell.cfg.get('custom_imports') or dict(imports=[]))
    sender.send(_run_safely(cell, *args, lambda done, total: sender.send((done, total))))


def _run_safely(cell: ResolvedCell, batch_size: int, ib: bool, tick: Tick) -> str:
    """Run a cell, write its result or its failure, and say in a few words what has come of it."""
    try:
        result = run_cell(cell, batch_size, ib, tick)
        save_result(cell.result_path, result)
    except Exception as error:  # of whatever kind: the other cells shall run
        return _fail(cell, summary(error), traceback.format_exc())
    finally:
        gc.collect()  # the workers of its loaders
    values = ', '.join(f'{name} {value:.4g}' for name, value in result['metrics'].items())
    return f'{values} in {result["wall_time_s"]:.0f} s'


def _fail(cell: ResolvedCell, error: str, trace: str = '') -> str:
    _save_reason(cell, 'failed', error)
    folder = cell.work_dir.parent
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'traceback.txt').write_text(trace or error)
    return f'failed, {error}'


def _save_reason(cell: ResolvedCell, status: str, error: str) -> None:
    """Write why there is no result, with names for absolute paths."""
    error = re.sub(r'(?<![\w.])/(?:[^\s/\'"]+/)+', '', error)
    save_result(cell.result_path, dict(cell.fingerprint, kind='cell', status=status, error=error, setting=env_info()))


def _status(cell: ResolvedCell) -> str | None:
    return load_result(cell.result_path)['status'] if cell.result_path.is_file() else None


def _is_done(cell: ResolvedCell, ib: bool, overwrite: bool) -> bool:
    """Whether there is a result of these settings."""
    if _status(cell) != 'done':
        return False
    result = load_result(cell.result_path)
    differing = [name for name, value in cell.fingerprint.items() if result[name] != value]
    if differing and not overwrite:
        raise UserError(f'{cell.result_path} is a result of other settings ({", ".join(differing)}): choose another '
                        'folder, or say that it shall be overwritten (--overwrite)')
    return not differing and not (ib and result['ib'] is None)
