"""Training and testing one cell."""

import contextlib
import io
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.models.classifiers import BaseClassifier

from mmltm.apis.env_info import setting
from mmltm.apis.runner import build_loop, build_runner
from mmltm.engine.runner_utils import unwrapped_model

from .cell import Cell
from .cell_config import cell_config, tunes_masks
from .correct_images import CorrectImages
from .history import training_history
from .identity import identity
from .measures import bottleneck, mean_gmacs, peak_memory

#: Called with the number of steps done, and with that of all.
Tick = Callable[[int, int], None]


def run_cell(cell: Cell,
             out_dir: Path,
             data_root: str | None = None,
             batch_size: int = 16,
             ib: bool = False,
             tick: Tick = lambda done, total: None) -> dict:
    """Train a cell if it has epochs, test it, and measure it.

    A training that was interrupted goes on from its last epoch. Logs and checkpoints go to :func:`work_dir_of`, and
    nothing to the screen.

    Args:
        cell (Cell): What to run.
        out_dir (Path): Folder of results.
        data_root (str, optional): Folder that every data set shall read from.
        batch_size (int): Images of the forward pass whose memory is measured. Defaults to 16.
        ib (bool): Measure IB loss and bound, which takes two more passes over the test images. Defaults to False.
        tick (Callable): Called after every step.

    Returns:
        dict: The result, see :mod:`mmltm.apis.results`.

    Raises:
        Exception: Whatever mmengine raises.
    """
    begin, known, work_dir = time.perf_counter(), identity(cell), work_dir_of(cell, out_dir)
    with contextlib.redirect_stdout(_Nowhere()):
        runner = _build_runner(cell_config(cell, data_root, work_dir))
        correct, loader = CorrectImages(), runner.test_dataloader
        model = unwrapped_model(runner)
        if isinstance(model, BaseClassifier):
            runner.test_evaluator.metrics.append(correct)
        passes = (3 if ib else 1) * len(loader)
        progress = _Progress(passes + (cell.epochs * len(runner.train_dataloader) if cell.epochs else 0), tick)
        runner.register_hook(progress)
        resumed = runner._resume
        if cell.epochs:
            runner.train()
        metrics = runner.test()
        model.eval()
        return dict(
            known,
            kind='cell', status='done', error=None,
            tuned=None if not cell.epochs else 'masks' if tunes_masks(runner.cfg) else 'all',
            metrics={name: float(value) for name, value in metrics.items()},
            images=len(loader.dataset), correct=correct.correct,
            gmacs=mean_gmacs(model, loader),
            params=sum(p.numel() for p in model.parameters()),
            learnt=sum(p.numel() for p in model.parameters() if p.requires_grad) if cell.epochs else 0,
            peak_memory=peak_memory(model, loader, batch_size),
            ib=bottleneck(model, loader, progress.step) if ib else None,
            history=training_history(work_dir) if cell.epochs else [],
            wall_time_s=round(time.perf_counter() - begin, 1), resumed=resumed,
            setting=setting(next(model.parameters()).device))


def work_dir_of(cell: Cell, out_dir: Path) -> Path:
    """Where a cell leaves logs and checkpoints: another folder for every change of its settings."""
    known = identity(cell)
    return Path(out_dir) / 'work_dirs' / cell.key / '-'.join(
        value[:6] for value in (known['checkpoint'], *known['digest'].values()) if value)


def _build_runner(cfg) -> Runner:
    # Else two runs within a second would share a name, and with it a logger.
    cfg.experiment_name = f'{Path(cfg.work_dir).name}_{uuid.uuid4().hex[:8]}'
    runner = build_runner(cfg)
    for mode in ('test', 'train') if cfg.train_cfg else ('test', ):
        build_loop(runner, mode)
    return runner


class _Nowhere(io.TextIOBase):
    """Takes text and keeps none; never closed, because loggers hold on to the stream they were made with."""

    def write(self, text: str) -> int:
        return len(text)


class _Progress(Hook):
    """Reports every step of a training and of the passes over test images after it."""

    def __init__(self, total: int, tick: Tick) -> None:
        self._total, self._tick, self._done = total, tick, 0

    def step(self) -> None:
        self._done += 1
        self._tick(self._done, self._total)

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        self._done = runner.iter  # steps before a resumption count, too
        self.step()

    def after_test_iter(self, runner, *args, **kwargs) -> None:
        self.step()
