"""IB loss and bound by layer of the methods of an experiment (the LTM paper's Tables 6 and 7, and Figure 2).

Methods are compared in one space, the full grid of each stage, to which the tokens of every merger are brought back.
The paper does not say in which space it compares mergers that keep a grid with those that keep none.
"""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mmltm.apis.results import load_results
from mmltm.visualization.figures import new_figure
from mmltm.visualization.ib_curves import TITLES, Position, plot_over_layers, position

from .cell import VANILLA
from .plot import MARKERS, add_legend, method_colors, row_name
from .table import make_rows

KEYS = ('ib_loss', 'ib_bound')
FILE = 'ib_layers.png'


class Curve(NamedTuple):
    """Of one method at one ratio after some epochs.

    Attributes:
        label (str): The method's name in tables.
        epochs (int): Of training.
        seeds (int): Number of cells that the values are means of.
        values (dict): From one of :data:`KEYS` to the value of each layer, in nats, by its position in the network.
    """
    label: str
    epochs: int
    seeds: int
    values: dict[str, dict[Position, float]]


class Comparison(NamedTuple):
    """Methods at one ratio, and vanilla.

    Attributes:
        title (str): Config and ratio.
        layers (list): Positions of all layers that any method of the config has, in the order of the network.
        curves (list[Curve]): Vanilla first.
    """
    title: str
    layers: list[Position]
    curves: list[Curve]


def read_comparisons(out_dir: Path) -> list[Comparison]:
    """One for each config and ratio of a folder of results that has cells with values in the common space."""
    groups: dict[tuple, list[dict]] = {}
    for cell in load_results(out_dir):
        if cell['status'] == 'done' and common_layers(cell):
            settings = json.dumps([cell['overrides'], cell['hooks'], cell['merger']], sort_keys=True)
            key = (cell['config'], cell['ratio'], cell['label'] != VANILLA, cell['label'], cell['epochs'], settings)
            groups.setdefault(key, []).append(cell)
    curves: dict[tuple, list[Curve]] = {}
    for config, ratio, *name in sorted(groups, key=lambda key: (key[0], -(key[1] or 1), *key[2:])):
        curves.setdefault((config, ratio), []).append(_mean_curve(groups[(config, ratio, *name)]))
    comparisons = []
    for (config, ratio), chosen in curves.items():
        everything = [curve for key, found in curves.items() if key[0] == config for curve in found]
        layers = sorted({layer for curve in everything for layer in curve.values[KEYS[0]]})
        if ratio is not None:
            comparisons.append(Comparison(
                f'{config}, ratio {ratio:g}', layers, curves.get((config, None), []) + chosen))
    return comparisons


def common_layers(cell: dict) -> dict[str, dict] | None:
    """Values in the common space; what merges nothing is there anyway."""
    ib = cell['ib'] or {}
    return ib.get('restored') or (ib.get('layers') if cell['merger'] is None else None)


def _mean_curve(cells: Sequence[dict]) -> Curve:
    return Curve(cells[0]['label'], cells[0]['epochs'], len(cells), {key: mean_by_layer(cells, key) for key in KEYS})


def mean_by_layer(cells: Sequence[dict], key: str) -> dict[Position, float]:
    """One of :data:`KEYS` by the position of the layer, mean over the seeds of one method."""
    return {position(name): statistics.fmean(common_layers(cell)[name][key] for cell in cells)
            for name in common_layers(cells[0])}


def draw_ib_layers(out_dir: Path, labels: Sequence[str] = ()) -> Path | None:
    """Draw ``ib_layers.png``: a row of panels a comparison, IB loss and IB bound, a line a method.

    A method is the colour that it has in :func:`~harness.plot.draw_pareto`, a number of epochs a marker; the
    dashed line is vanilla. Layers are numbered from 1.

    Args:
        out_dir (Path): Folder of results.
        labels (Sequence[str]): Methods to show beside vanilla. Defaults to none, which shows all.

    Returns:
        Path, optional: Of the picture; None if there is nothing to draw.
    """
    comparisons = [comparison._replace(curves=_shown(comparison.curves, labels))
                   for comparison in read_comparisons(out_dir)]
    comparisons = [comparison for comparison in comparisons
                   if any(curve.label != VANILLA for curve in comparison.curves)]
    if not comparisons:
        return None
    colors = method_colors([row for row in make_rows(out_dir) if not labels or row['label'] in labels])
    epochs = sorted({curve.epochs for comparison in comparisons for curve in comparison.curves})
    figure = new_figure(11, 3.6 * len(comparisons), dpi=120)
    for comparison, panels in zip(comparisons, figure.subplots(len(comparisons), len(KEYS), squeeze=False)):
        numbers = {layer: (number, ) for number, layer in enumerate(comparison.layers, 1)}
        styles = [dict(colors[curve.label], marker=MARKERS[epochs.index(curve.epochs) % len(MARKERS)], markersize=4)
                  for curve in comparison.curves]
        for key, axes in zip(KEYS, panels):
            curves = {row_name(curve._asdict()): {numbers[layer]: value for layer, value in curve.values[key].items()}
                      for curve in comparison.curves}
            plot_over_layers(axes, curves, key, styles)
        panels[0].set_title(comparison.title, fontsize='medium', loc='left')
    add_legend(figure)
    path = Path(out_dir) / FILE
    figure.savefig(path)
    return path


def _shown(curves: Sequence[Curve], labels: Sequence[str]) -> list[Curve]:
    return [curve for curve in curves if not labels or curve.label in (VANILLA, *labels)]


def ib_layers_table(out_dir: Path) -> str:
    """IB loss and IB bound as Markdown, a table a comparison and quantity; empty if there is nothing to show.

    Args:
        out_dir (Path): Folder of results.
    """
    tables = [_table(comparison, key) for comparison in read_comparisons(out_dir) for key in KEYS]
    notes = ['Tokens of all methods are brought back to the full grid of their stage. Mean: over the layers that all '
             'methods of the table have; a layer that merges nothing is left out.'] if tables else []
    return '\n\n'.join([*tables, *notes])


def _table(comparison: Comparison, key: str) -> str:
    common = [layer for layer in comparison.layers if all(layer in curve.values[key] for curve in comparison.curves)]
    numbers = [str(number) for number in range(1, len(comparison.layers) + 1)]
    rows = [['method', 'epochs', 'seeds', *numbers, 'mean'], ['---'] + ['---:'] * (len(numbers) + 3)]
    for curve in comparison.curves:
        values = curve.values[key]
        cells = [f'{values[layer]:.4f}' if layer in values else '' for layer in comparison.layers]
        mean = f'{statistics.fmean(values[layer] for layer in common):.4f}' if common else ''
        rows.append([curve.label, str(curve.epochs), str(curve.seeds), *cells, mean])
    lines = [f'| {" | ".join(row)} |' for row in rows]
    return '\n'.join([f'**{comparison.title}: {TITLES[key]}, by layer**', '', *lines])
