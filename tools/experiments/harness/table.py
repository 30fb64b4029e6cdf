"""One table over methods, ratios and epochs, from results alone."""

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import pandas as pd

from .cell import VANILLA
from .experiment import saved_experiment
from .markdown import number, table
from .metrics import TITLES, TOP1, difference, main_metric, metric_digits, metric_title
from .results import by_method, load_results

#: Columns that every table has; see :func:`make_rows`.
COLUMNS = (
    'config', 'label', 'ratio', 'epochs', 'overrides', 'seeds', 'images', 'metric', 'value', 'spread', 'difference',
    'standard_error', 'gmacs', 'macs_ratio', 'peak_bytes', 'ib_loss', 'ib_bound', 'losses', 'error')


def make_rows(out_dir: Path, metric: str | None = None) -> pd.DataFrame:
    """A row for every method at every ratio after so many epochs, its seeds taken together.

    Args:
        out_dir (Path): Folder of results.
        metric (str, optional): Name among the cells' metrics. Defaults to that of the folder's experiment, else to
            top-1 accuracy, else to AP of masks or of boxes.

    Returns:
        DataFrame: In the order config, vanilla first, label, ratio (falling), epochs; None or NaN where nothing
        applies. Columns: ``config``, ``label``, ``ratio``, ``epochs``, ``overrides`` (of the config), ``seeds``
        (number), ``images``, ``metric`` (its name), ``value`` (mean over seeds), ``spread`` (standard deviation over
        seeds), ``difference`` from vanilla and its ``standard_error``, see :func:`~harness.metrics.difference`,
        ``gmacs`` and ``macs_ratio``, ``peak_bytes``, ``ib_loss`` and ``ib_bound`` (means over the layers), ``losses``
        (of the training, an epoch each, means over seeds, None where one was not finite), ``error``; means over seeds
        of other known metrics by their names; and for every batch size B ``median_ms_batch_B`` and
        ``latency_ratio_batch_B``. Vanilla is the cell of the same config and epochs, or else that off the shelf.
    """
    metric = metric or saved_experiment(out_dir).get('metric')
    cells = load_results(out_dir)
    done = [cell for cell in cells if cell['status'] == 'done']
    timings = {key: model['timings'] for result in load_results(out_dir, 'latency') for model in result['models']
               for key in model['cells']}
    rows = pd.DataFrame([_row(method, done, timings, metric) for method in by_method(cells)])
    rows = rows.reindex(columns=[*COLUMNS, *(name for name in rows if name not in COLUMNS)])
    if rows.empty:
        return rows
    order = pd.DataFrame(dict(
        config=rows.config, merging=rows.label != VANILLA, label=rows.label.str.lower(),
        ratio=-rows.ratio.astype(float).fillna(1.), epochs=rows.epochs))
    return rows.loc[order.sort_values(list(order), kind='stable').index].reset_index(drop=True)


def _row(cells: list[dict], all_done: list[dict], timings: dict[str, list[dict]], metric: str | None) -> dict:
    done = [cell for cell in cells if cell['status'] == 'done']
    row = dict({key: cells[0][key] for key in ('config', 'label', 'ratio', 'epochs', 'overrides')}, seeds=len(done),
               error=next((f"{cell['status']}: {cell['error']}" for cell in cells if cell['error']), None))
    if not done:
        return row
    first, vanilla = done[0], _vanilla_of(done[0], all_done)
    metric = main_metric(first['metrics'], metric)
    values = pd.Series([cell['metrics'].get(metric) for cell in done], dtype=float)
    layers = [layer for cell in done for layer in ((cell['ib'] or {}).get('layers') or {}).values()]
    losses = zip(*([entry.get('loss') for entry in cell['history']] for cell in done))
    row.update(
        images=first['images'], metric=metric, value=values.mean(), spread=values.std(),
        gmacs=fmean(cell['gmacs'] for cell in done), peak_bytes=fmean(cell['peak_memory']['bytes'] for cell in done),
        losses=[None if None in seeds else fmean(seeds) for seeds in losses])
    if layers:
        row.update({key: fmean(layer[key] for layer in layers) for key in ('ib_loss', 'ib_bound')})
    if vanilla:
        row['macs_ratio'] = row['gmacs'] / fmean(cell['gmacs'] for cell in vanilla)
        if first['label'] != VANILLA and all(metric in cell['metrics'] for cell in (*done, *vanilla)):
            row['difference'], row['standard_error'] = difference(done, vanilla, metric)
    for name in TITLES:
        if name != metric and name in first['metrics']:
            row[name] = fmean(cell['metrics'][name] for cell in done)
    for timing in timings.get(first['key'], ()):
        row[f'median_ms_batch_{timing["batch_size"]}'] = timing['median_ms']
        row[f'latency_ratio_batch_{timing["batch_size"]}'] = timing['ratio']
    return row


def _vanilla_of(cell: dict, done: list[dict]) -> list[dict]:
    """Vanilla cells to compare with: on the same images, from the same weights; trained alike, if there are such."""
    candidates = [other for other in done if other['label'] == VANILLA and other['config'] == cell['config']
                  and other['checkpoint'] == cell['checkpoint'] and other['digest']['test'] == cell['digest']['test']]
    alike = [other for other in candidates if other['epochs'] == cell['epochs']]
    return alike or [other for other in candidates if other['epochs'] == 0]


def batch_sizes(rows: pd.DataFrame) -> list[int]:
    """Of the latencies that some row has."""
    names = rows.filter(regex='^median_ms_batch_').dropna(axis='columns', how='all')
    return sorted(int(name.rpartition('_')[2]) for name in names)


def to_markdown(rows: pd.DataFrame) -> str:
    """The rows as a table for people: a line that says what is in it, a table a config."""
    parts = []
    for config, chosen in rows.groupby('config'):
        images = [f'{count:.0f}' for count in sorted(chosen.images.dropna().unique())]
        header, texts = zip(*_columns(chosen))
        reasons = [f'- {row.label} {number(row.ratio, 2)}, {row.epochs} epochs: {row.error}'
                   for row in chosen[chosen.error.notna()].itertuples()]
        parts += [f'**{config}**, {" or ".join(images) or "no"} images', '', table(header, zip(*texts), align='lr'), '',
                  *(reasons + [''] if reasons else [])]
    paired = rows.standard_error[rows.metric == TOP1].notna().any()
    return '\n'.join([
        *parts, f"Difference: from vanilla{', ± its paired standard error over the images' if paired else ''}; ± after "
        'the value: standard deviation over seeds; quotients are to vanilla.', ''])


def _columns(rows: pd.DataFrame) -> Iterator[tuple[str, list[str]]]:
    """Heading and cells of each column."""
    def texts(name: str, digits: int, sign: str = '', error: str | None = None, scale: float = 1.) -> list[str]:
        errors = [None] * len(rows) if error is None else rows[error]
        return [number(value * scale, digits, sign, other) for value, other in zip(rows[name].astype(float), errors)]

    metric = next(iter(rows.metric.dropna()), None)
    digits = metric_digits(metric)
    outcomes = rows.error.fillna('').str.partition(':')[0]  # the reasons stand below
    yield 'method', list(rows.label)
    yield 'ratio', texts('ratio', 2)
    yield 'epochs', list(rows.epochs)
    yield 'seeds', list(rows.seeds)
    values = texts('value', digits, error='spread')
    yield metric_title(metric or 'metric'), [' '.join(filter(None, both)) for both in zip(values, outcomes)]
    yield 'difference', texts('difference', digits, '+', 'standard_error')
    for name in TITLES:
        if name in rows and rows[name].notna().any():
            yield metric_title(name), texts(name, metric_digits(name))
    yield 'GMACs', texts('gmacs', 4)
    yield 'quotient', texts('macs_ratio', 3)
    for size in batch_sizes(rows):
        yield f'ms at batch {size}', texts(f'median_ms_batch_{size}', 1)
        yield 'quotient', texts(f'latency_ratio_batch_{size}', 3)
    yield 'peak, MB', texts('peak_bytes', 1, scale=1e-6)
    yield 'IB loss', texts('ib_loss', 4)
    yield 'IB bound', texts('ib_bound', 4)
