"""IB loss and bound by layer of the methods of an experiment (the LTM paper's Tables 6 and 7, and Figure 2).

Methods are compared in one space, the full grid of each stage, to which the tokens of every merger are brought back.
The paper does not say in which space it compares mergers that keep a grid with those that keep none.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import pandas as pd

from mmltm.visualization.figures import new_figure

from .cell import VANILLA
from .ib_curves import TITLES, Position, plot_over_layers, position
from .markdown import number, table
from .plots import MARKERS, add_legend, method_colors, row_name
from .results import by_method, load_results
from .table import make_rows

KEYS = ('ib_loss', 'ib_bound')
FILE = 'ib_layers.png'


def common_layers(cell: dict) -> dict[str, dict] | None:
    """Values in the common space; what merges nothing is there anyway."""
    ib = cell['ib'] or {}
    return ib.get('restored') or (ib.get('layers') if cell['merger'] is None else None)


def mean_by_layer(cells: Sequence[dict], key: str) -> dict[Position, float]:
    """One of :data:`KEYS` by the position of the layer, mean over the seeds of one method."""
    layers = [common_layers(cell) or {} for cell in cells]
    return {position(name): fmean(of_cell[name][key] for of_cell in layers) for name in layers[0]}


def comparisons(out_dir: Path) -> dict[str, pd.DataFrame]:
    """Methods at one ratio beside vanilla, for each config and ratio of a folder that has values in the common space.

    Returns:
        dict: From the title, config and ratio, to a table with a row for each method, vanilla first. Its index has
        ``label``, ``epochs`` and ``seeds``, and its columns are (one of :data:`KEYS`, number of the layer from 1) for
        all layers that any method of the config has; NaN where a method has none.
    """
    records = []
    measured = [cell for cell in load_results(out_dir) if cell['status'] == 'done' and common_layers(cell)]
    for cells in by_method(measured):
        values = {key: mean_by_layer(cells, key) for key in KEYS}
        method = {key: cells[0][key] for key in ('config', 'ratio', 'label', 'epochs')}
        records += [dict(method, merges=method['label'] != VANILLA, seeds=len(cells), key=cells[0]['key'], layer=layer,
                         **{key: values[key][layer] for key in KEYS}) for layer in values[KEYS[0]]]
    found = {}
    for config, rows in pd.DataFrame(records, columns=None if records else ['config']).groupby('config'):
        numbers = {layer: count for count, layer in enumerate(sorted(set(rows.layer)), 1)}
        rows = rows.assign(layer=rows.layer.map(numbers))
        for ratio in sorted(rows.ratio.dropna().unique(), reverse=True):
            values = rows[rows.ratio.isna() | (rows.ratio == ratio)].pivot(
                index=['merges', 'label', 'epochs', 'key', 'seeds'], columns='layer', values=list(KEYS))
            columns = pd.MultiIndex.from_product([KEYS, numbers.values()])
            found[f'{config}, ratio {ratio:g}'] = values.reindex(columns=columns).droplevel(['merges', 'key'])
    return found


def draw_ib_layers(out_dir: Path, labels: Sequence[str] = ()) -> Path | None:
    """Draw ``ib_layers.png``: a row of panels a comparison, IB loss and IB bound, a line a method.

    A method is the colour that it has in :func:`~harness.plots.draw_pareto`, a number of epochs a marker; the
    dashed line is vanilla. Layers are numbered from 1.

    Args:
        out_dir (Path): Folder of results.
        labels (Sequence[str]): Methods to show beside vanilla. Defaults to none, which shows all.

    Returns:
        Path, optional: Of the picture; None if there is nothing to draw.
    """
    shown = {title: values[values.index.isin(labels or values.index.unique('label'), 'label') | (
        values.index.get_level_values('label') == VANILLA)] for title, values in comparisons(out_dir).items()}
    shown = {title: values for title, values in shown.items() if set(values.index.unique('label')) - {VANILLA}}
    if not shown:
        return None
    rows = make_rows(out_dir)
    colors = method_colors(rows[rows.label.isin(labels)] if labels else rows)
    epochs = sorted({count for values in shown.values() for count in values.index.unique('epochs')})
    figure = new_figure(11, 3.6 * len(shown), dpi=120)
    for (title, values), panels in zip(shown.items(), figure.subplots(len(shown), len(KEYS), squeeze=False)):
        styles = [dict(colors[label], marker=MARKERS[epochs.index(count) % len(MARKERS)], markersize=4)
                  for label, count, _ in values.index]
        for key, axes in zip(KEYS, panels):
            curves = {row_name(label, count): {(layer, ): value for layer, value in curve.dropna().items()}
                      for (label, count, _), curve in values[key].iterrows()}
            plot_over_layers(axes, curves, key, styles)
        panels[0].set_title(title, fontsize='medium', loc='left')
    add_legend(figure)
    path = Path(out_dir) / FILE
    figure.savefig(path)
    return path


def ib_layers_table(out_dir: Path) -> str:
    """IB loss and IB bound as Markdown, a table a comparison and quantity; empty if there is nothing to show.

    Args:
        out_dir (Path): Folder of results.
    """
    parts = []
    for title, values in comparisons(out_dir).items():
        for key in KEYS:
            means = values[key].dropna(axis='columns').mean(axis='columns')
            rows = [[*method, *(number(value, 4) for value in (*curve, mean))]
                    for (method, curve), mean in zip(values[key].iterrows(), means)]
            header = ['method', 'epochs', 'seeds', *values[key], 'mean']
            parts += [f'**{title}: {TITLES[key]}, by layer**', table(header, rows, align='lr')]
    if parts:
        parts.append('Tokens of all methods are brought back to the full grid of their stage. Mean: over the layers '
                     'that all methods of the table have; a layer that merges nothing is left out.')
    return '\n\n'.join(parts)
