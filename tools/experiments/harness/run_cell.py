"""Training and testing one cell."""

import contextlib
import copy
import io
import math
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.models.classifiers import BaseClassifier

from mmltm.apis.runner import build_loop, build_runner
from mmltm.engine.runner_utils import unwrapped_model

from .measures import CorrectImages, bottleneck, mean_gmacs, peak_memory
from .resolve import ResolvedCell
from .result_file import env_info
from .training_log import read_scalars

#: Called with the number of steps done, and with that of all.
Tick = Callable[[int, int], None]
_NO_CURVES = ('epoch', 'iter', 'step', 'time', 'data_time', 'memory')


def run_cell(resolved: ResolvedCell,
             batch_size: int = 16,
             ib: bool = False,
             tick: Tick = lambda done, total: None) -> dict:
    """Train a cell if it has epochs, test it, and measure it.

    A training that was interrupted goes on from its last epoch. Logs and checkpoints go to the cell's work folder, and
    nothing to the screen.

    Args:
        resolved (ResolvedCell): What to run.
        batch_size (int): Images of the forward pass whose memory is measured. Defaults to 16.
        ib (bool): Measure IB loss and bound, which takes two more passes over the test images. Defaults to False.
        tick (Callable): Called after every step.

    Returns:
        dict: The result, see :mod:`harness.results`.

    Raises:
        Exception: Whatever mmengine raises.
    """
    begin, epochs = time.perf_counter(), resolved.cell.epochs
    with contextlib.redirect_stdout(_Nowhere()):
        runner = _build_runner(resolved)
        correct, loader = CorrectImages(), runner.test_dataloader
        model = unwrapped_model(runner)
        if isinstance(model, BaseClassifier):
            runner.test_evaluator.metrics.append(correct)
        passes = (3 if ib else 1) * len(loader)
        progress = _Progress(passes + (epochs * len(runner.train_dataloader) if epochs else 0), tick)
        runner.register_hook(progress)
        if epochs:
            runner.train()
        metrics = runner.test()
        model.eval()
        return dict(
            resolved.fingerprint,
            kind='cell', status='done', error=None,
            tuned=None if not epochs else 'masks' if resolved.tunes_masks else 'all',
            metrics={name: float(value) for name, value in metrics.items()},
            images=len(loader.dataset), correct=correct.correct,
            gmacs=mean_gmacs(model, loader),
            params=sum(p.numel() for p in model.parameters()),
            learnt=sum(p.numel() for p in model.parameters() if p.requires_grad) if epochs else 0,
            peak_memory=peak_memory(model, loader, batch_size),
            ib=bottleneck(model, loader, progress.step) if ib else None,
            history=training_history(resolved.work_dir) if epochs else [],
            wall_time_s=round(time.perf_counter() - begin, 1), resumed=bool(resolved.cfg.resume),
            setting=env_info(next(model.parameters()).device))


def training_history(work_dir: Path) -> list[dict]:
    """Means of what was logged in every epoch of a training, whatever number of calls it took.

    Args:
        work_dir (Path): Where mmengine has logged.

    Returns:
        list[dict]: ``epoch`` and the means by name, an epoch each, None for a mean that is not finite; empty if
        nothing was logged.
    """
    curves: dict[int, dict[str, list[float]]] = {}
    for name, series in read_scalars(work_dir).items():
        for epoch, value in series.values() if name not in _NO_CURVES else ():
            curves.setdefault(epoch, {}).setdefault(name, []).append(value)
    return [dict(epoch=epoch, **{name: _mean(values) for name, values in curves[epoch].items()})
            for epoch in sorted(curves) if epoch]


def _mean(values: list[float]) -> float | None:
    mean = fmean(values)
    return mean if math.isfinite(mean) else None


def _build_runner(resolved: ResolvedCell) -> Runner:
    cfg = copy.deepcopy(resolved.cfg)
    # Else two runs within a second would share a name, and with it a logger.
    cfg.experiment_name = f'{resolved.work_dir.name}_{uuid.uuid4().hex[:8]}'
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
