"""One table over methods, ratios and epochs, from results alone."""

import csv
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from mmltm.apis.results import load_results

from .cell import VANILLA
from .experiment import saved_experiment
from .metrics import TITLES, main_metric, metric_digits, metric_title
from .paired import paired_difference


def make_rows(out_dir: Path, metric: str | None = None) -> list[dict]:
    """Rows over all cells of a folder of results, the seeds of a method taken together.

    Args:
        out_dir (Path): Folder of results.
        metric (str, optional): Name among the cells' metrics. Defaults to that of the folder's experiment, else to
            top-1 accuracy, else to AP of masks or of boxes.

    Returns:
        list[dict]: In the order config, vanilla first, label, ratio (falling), epochs. Keys: ``config``, ``label``,
        ``ratio``, ``epochs``, ``overrides`` (of the config), ``seeds`` (number), ``images``, ``metric`` (its name),
        ``value`` (mean over seeds), ``spread`` (standard deviation over seeds, None for one), ``difference`` from
        vanilla and, for classifiers, its paired ``standard_error``, ``others`` (means over seeds of other known
        metrics, by name), ``gmacs`` and ``macs_ratio``, ``latency`` (dict from batch size to ``median_ms`` and
        ``ratio``), ``peak_bytes``, ``ib_loss`` and ``ib_bound`` (means over the layers), ``losses`` (of the training,
        an epoch each, means over seeds, None where one was not finite), ``error``. Vanilla is the cell of the same
        config and epochs, or else that off the shelf.
    """
    metric = metric or saved_experiment(out_dir).get('metric')
    groups: dict[tuple, list[dict]] = {}
    for cell in load_results(out_dir):
        name = json.dumps([cell['overrides'], cell['hooks'], cell['merger']], sort_keys=True)
        groups.setdefault((cell['config'], cell['label'], cell['ratio'], cell['epochs'], name), []).append(cell)
    timings = _timings(out_dir)
    rows = [_row(cells, groups, timings, metric) for cells in groups.values()]
    return sorted(rows, key=lambda row: (
        row['config'], row['label'] != VANILLA, row['label'].lower(), -(row['ratio'] or 1), row['epochs']))


def _row(cells: list[dict], groups: dict[tuple, list[dict]], timings: dict[str, list[dict]],
         metric: str | None) -> dict:
    first, done = cells[0], [cell for cell in cells if cell['status'] == 'done']
    row = dict({key: first[key] for key in ('config', 'label', 'ratio', 'epochs', 'overrides')}, seeds=len(done),
               error=next((f"{cell['status']}: {cell['error']}" for cell in cells if cell['error']), None))
    if not done:
        return row
    vanilla = _vanilla_of(done[0], groups)
    metric = main_metric(done[0]['metrics'], metric)
    values = _values(done, metric)
    row.update(
        images=done[0]['images'], metric=metric, value=_mean(values),
        spread=statistics.stdev(values) if len(values) > 1 else None,
        others={name: _mean(_values(done, name)) for name in TITLES
                if name != metric and name in done[0]['metrics']},
        gmacs=_mean([cell['gmacs'] for cell in done]),
        peak_bytes=_mean([cell['peak_memory']['bytes'] for cell in done]),
        ib_loss=_ib(done, 'ib_loss'), ib_bound=_ib(done, 'ib_bound'), losses=_losses(done),
        latency={timing['batch_size']: {key: timing[key] for key in ('median_ms', 'ratio')}
                 for timing in timings.get(done[0]['key'], [])})
    if vanilla:
        row['macs_ratio'] = row['gmacs'] / _mean([cell['gmacs'] for cell in vanilla])
        theirs = _values(vanilla, metric)
        if values and theirs and first['label'] != VANILLA:
            row['difference'] = _mean(values) - _mean(theirs)
            if metric == 'accuracy/top1' and all(cell['correct'] for cell in (*done, *vanilla)):
                row['standard_error'] = paired_difference(
                    [cell['correct'] for cell in done], [cell['correct'] for cell in vanilla]).standard_error
    return row


def _vanilla_of(cell: dict, groups: dict[tuple, list[dict]]) -> list[dict]:
    """Vanilla cells to compare with: on the same images, from the same weights; trained alike, if there are such."""
    candidates = [other for cells in groups.values() for other in cells
                  if other['status'] == 'done' and other['label'] == VANILLA and other['config'] == cell['config']
                  and other['checkpoint'] == cell['checkpoint'] and other['digest']['test'] == cell['digest']['test']]
    alike = [other for other in candidates if other['epochs'] == cell['epochs']]
    return alike or [other for other in candidates if other['epochs'] == 0]


def _timings(out_dir: Path) -> dict[str, list[dict]]:
    """Timings of every cell, by its key."""
    return {key: model['timings'] for result in load_results(out_dir, 'latency') for model in result['models']
            for key in model['cells']}


def _values(cells: list[dict], metric: str | None) -> list[float]:
    return [cell['metrics'][metric] for cell in cells if metric in cell['metrics']]


def _losses(cells: list[dict]) -> list[float | None]:
    epochs = zip(*([entry.get('loss') for entry in cell['history']] for cell in cells))
    return [None if None in seeds else _mean(seeds) for seeds in epochs]


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _ib(cells: list[dict], key: str) -> float | None:
    """Mean over seeds and layers."""
    return _mean([layer[key] for cell in cells for layer in ((cell['ib'] or {}).get('layers') or {}).values()])


def to_markdown(rows: Sequence[dict]) -> str:
    """The rows as a table for people: a line that says what is in it, a table a config."""
    parts = []
    for config in dict.fromkeys(row['config'] for row in rows):
        chosen = [row for row in rows if row['config'] == config]
        sizes, others = _batch_sizes(chosen), _others(chosen)
        header, lines = _header(chosen, sizes, others), [_cells(row, sizes, others) for row in chosen]
        aligned = ['---'] + ['---:'] * (len(header) - 1)
        images = sorted({row['images'] for row in chosen if row.get('images')})
        reasons = [f'- {row["label"]} {_number(row["ratio"], 2)}, {row["epochs"]} epochs: {row["error"]}'
                   for row in chosen if row['error']]
        parts += [f'**{config}**, {" or ".join(map(str, images)) or "no"} images', '',
                  *(f'| {" | ".join(cells)} |' for cells in (header, aligned, *lines)), '',
                  *(reasons + [''] if reasons else [])]
    paired = ', ± its paired standard error over the images' if any('standard_error' in row for row in rows) else ''
    return '\n'.join([*parts, f'Difference: from vanilla{paired}; ± after the value: standard deviation over seeds; '
                      'quotients are to vanilla.', ''])


def write_csv(rows: Sequence[dict], path: Path) -> None:
    """The rows for programs, a column a key, another metric and a batch size."""
    sizes, others = _batch_sizes(rows), _others(rows)
    keys = ('config', 'label', 'ratio', 'epochs', 'seeds', 'images', 'metric', 'value', 'spread', 'difference',
            'standard_error', 'gmacs', 'macs_ratio', 'peak_bytes', 'ib_loss', 'ib_bound', 'error')
    with Path(path).open('w', newline='') as file:
        writer = csv.writer(file)
        names = ('median_ms', 'latency_ratio')
        writer.writerow([*keys, *others, *(f'{name}_batch_{size}' for size in sizes for name in names)])
        for row in rows:
            timings = [row.get('latency', {}).get(size, {}) for size in sizes]
            writer.writerow([*(row.get(key) for key in keys), *(row.get('others', {}).get(name) for name in others),
                             *(timing.get(name) for timing in timings for name in ('median_ms', 'ratio'))])


def _batch_sizes(rows: Sequence[dict]) -> list[int]:
    return sorted({size for row in rows for size in row.get('latency', {})})


def _others(rows: Sequence[dict]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.get('others', {})))


def _header(rows: Sequence[dict], sizes: Sequence[int], others: Sequence[str]) -> list[str]:
    metric = next((row['metric'] for row in rows if row.get('metric')), 'metric')
    latency = [text for size in sizes for text in (f'ms at batch {size}', 'quotient')]
    return ['method', 'ratio', 'epochs', 'seeds', metric_title(metric), 'difference', *map(metric_title, others),
            'GMACs', 'quotient', *latency, 'peak, MB', 'IB loss', 'IB bound']


def _cells(row: dict, sizes: Sequence[int], others: Sequence[str]) -> list[str]:
    digits = metric_digits(row.get('metric'))
    value = _number(row.get('value'), digits) + _plus_minus(row.get('spread'), digits)
    difference = _number(row.get('difference'), digits, '+') + _plus_minus(row.get('standard_error'), digits)
    latency = [text for size in sizes for timing in [row.get('latency', {}).get(size, {})]
               for text in (_number(timing.get('median_ms'), 1), _number(timing.get('ratio'), 3))]
    peak = row.get('peak_bytes')
    outcome = (row['error'] or '').partition(':')[0]  # the reason stands below
    return [row['label'], _number(row['ratio'], 2), str(row['epochs']), str(row['seeds']),
            ' '.join(filter(None, (value, outcome))), difference,
            *(_number(row.get('others', {}).get(name), metric_digits(name)) for name in others),
            _number(row.get('gmacs'), 4), _number(row.get('macs_ratio'), 3), *latency,
            _number(None if peak is None else peak / 1e6, 1), _number(row.get('ib_loss'), 4),
            _number(row.get('ib_bound'), 4)]


def _number(value: float | None, digits: int, sign: str = '') -> str:
    return '' if value is None else f'{value:{sign}.{digits}f}'


def _plus_minus(value: float | None, digits: int) -> str:
    return '' if value is None else f' ± {value:.{digits}f}'
