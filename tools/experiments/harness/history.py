"""Curves of a training, from the files that mmengine has logged them to."""

import json
import math
from pathlib import Path
from statistics import fmean

_NO_CURVES = ('epoch', 'iter', 'step', 'time', 'data_time', 'memory')


def training_history(work_dir: Path) -> list[dict]:
    """Means of what was logged in every epoch, whatever number of calls the training took.

    Args:
        work_dir (Path): With ``*/vis_data/scalars.json`` by mmengine's ``LocalVisBackend``.

    Returns:
        list[dict]: ``epoch`` and the means by name, an epoch each, None for a mean that is not finite; empty if
        nothing was logged.
    """
    # A later call repeats steps of an epoch that was interrupted, and counts.
    values: dict[tuple[str, int], tuple[int, float]] = {}
    for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        epoch = 0
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            epoch = entry.get('epoch', epoch)
            for name, value in entry.items():
                if name not in _NO_CURVES and isinstance(value, (int, float)):
                    values[name, entry['step']] = epoch, value
    curves: dict[int, dict[str, list[float]]] = {}
    for (name, _), (epoch, value) in values.items():
        curves.setdefault(epoch, {}).setdefault(name, []).append(value)
    return [dict(epoch=epoch, **{name: _mean(logged) for name, logged in curves[epoch].items()})
            for epoch in sorted(curves) if epoch]


def _mean(values: list[float]) -> float | None:
    mean = fmean(values)
    return mean if math.isfinite(mean) else None
