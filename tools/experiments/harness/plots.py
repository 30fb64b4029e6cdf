"""Pictures of a table of results: accuracy against operations and latency, and training loss against epochs."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmltm.visualization.figures import new_figure

from .cell import VANILLA
from .metrics import metric_title
from .table import batch_sizes

#: Okabe and Ito's colours, which the colour-blind tell apart; methods take them in order.
COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000', '#8C6D31')
MARKERS = 'osD^vP*Xhp'
VANILLA_STYLE = dict(color='gray', linestyle='--')


def draw_pareto(rows: pd.DataFrame, path: Path) -> None:
    """One panel for multiply-accumulates and one for each batch size, a row of panels for each config.

    A method is a colour and a number of epochs a marker; ratios of both are joined by a line. Bars are standard
    deviations over seeds; the dashed line is vanilla at each number of epochs.

    Args:
        rows (DataFrame): Of :func:`~harness.table.make_rows`.
        path (Path): Of the picture.
    """
    rows = rows[rows.value.notna()]
    panels = dict(gmacs='GMACs', **{f'median_ms_batch_{size}': f'latency at batch {size}, ms'
                                    for size in batch_sizes(rows)})
    configs = max(1, rows.config.nunique())
    figure = new_figure(4.8 * len(panels) + 1.5, 4.2 * configs, dpi=120)
    grid = figure.subplots(configs, len(panels), squeeze=False)
    for (config, chosen), axes_of_config in zip(rows.groupby('config'), grid):
        for axes, (column, title) in zip(axes_of_config, panels.items()):
            _pareto_panel(axes, chosen[chosen[column].notna()], column, rows)
            axes.set_xlabel(title)
        axes_of_config[0].set(ylabel=metric_title(chosen.metric.iloc[0]), title=config)
    add_legend(figure)
    figure.savefig(path)


def _pareto_panel(axes: Axes, chosen: pd.DataFrame, column: str, rows: pd.DataFrame) -> None:
    colors, epochs = method_colors(rows), sorted(rows.epochs.unique())
    for row in chosen[chosen.label == VANILLA].to_dict('records'):
        axes.axhline(row['value'], linewidth=1, **VANILLA_STYLE)
        axes.errorbar([row[column]], [row['value']], yerr=np.nan_to_num(row['spread']) or None, marker='*',
                      color=VANILLA_STYLE['color'], markersize=10, linestyle='', label=row_name(VANILLA, row['epochs']))
    for label, count in itertools.product(colors, epochs):
        curve = chosen[(chosen.label == label) & (chosen.epochs == count)].sort_values(column, kind='stable')
        if label == VANILLA or curve.empty:
            continue
        bars = curve.spread.fillna(0)
        axes.errorbar(curve[column], curve.value, capsize=2, markersize=5, yerr=bars if bars.any() else None,
                      label=row_name(label, count), marker=MARKERS[epochs.index(count) % len(MARKERS)], **colors[label])
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(alpha=0.3)


def with_curves(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table that have trained for two epochs or more."""
    return rows[rows.losses.str.len() > 1]


def draw_curves(rows: pd.DataFrame, path: Path) -> None:
    """One panel for each config: the loss that was minimised, mean over an epoch and over seeds (the paper's Figure 3).

    A method is the colour that it has in :func:`draw_pareto`, and a ratio a marker. What a method adds to the loss, for
    distillation or a budget, is part of it.

    Args:
        rows (DataFrame): Of :func:`~harness.table.make_rows`; those :func:`with_curves` are drawn.
        path (Path): Of the picture.
    """
    colors, rows = method_colors(rows), with_curves(rows)
    ratios = sorted(rows.ratio.dropna().unique(), reverse=True)
    configs = rows.config.nunique()
    figure = new_figure(7.5, 4.2 * configs, dpi=120)
    for (config, chosen), axes in zip(rows.groupby('config'), figure.subplots(configs, 1, squeeze=False).flat):
        for row in chosen.to_dict('records'):
            losses, name = np.array(row['losses'], float), row_name(row['label'], row['epochs'])  # NaN for None
            marker = MARKERS[ratios.index(row['ratio']) % len(MARKERS)] if row['ratio'] in ratios else '*'
            axes.plot(np.arange(1, len(losses) + 1), losses, marker=marker, markersize=4,
                      label=f"{name}, ratio {row['ratio']:g}" if row['ratio'] in ratios else name,
                      **colors[row['label']])
        axes.set(title=config, xlabel='epoch', ylabel='training loss')
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
        axes.grid(alpha=0.3)
    add_legend(figure)
    figure.savefig(path)


def method_colors(rows: pd.DataFrame) -> dict[str, dict]:
    """Colour and line of every method of a table that has a result, by its label."""
    labels = rows.label[(rows.label != VANILLA) & rows.value.notna()].unique()
    colors = {label: dict(color=COLORS[place % len(COLORS)], linestyle='-' if place < len(COLORS) else ':')
              for place, label in enumerate(labels)}
    return {VANILLA: VANILLA_STYLE, **colors}


def add_legend(figure: Figure) -> None:
    """One legend beside all panels, in which a name stands once."""
    handles = {label: line for axes in figure.axes for line, label in zip(*axes.get_legend_handles_labels())}
    figure.legend(handles.values(), handles.keys(), loc='outside right upper', fontsize='small')


def row_name(label: str, epochs: int) -> str:
    """Method and, where it was trained, number of epochs, as a legend has them."""
    return label if not epochs else f"{label}, {epochs} epoch{'' if epochs == 1 else 's'}"
