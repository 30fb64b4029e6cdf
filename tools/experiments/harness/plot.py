"""Pareto plots: accuracy against operations and against latency."""

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mmltm.visualization.figures import new_figure

from .cell import VANILLA
from .metrics import metric_title

#: Okabe and Ito's colours, which the colour-blind tell apart; methods take them in order.
COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000', '#8C6D31')
MARKERS = 'osD^vP*Xhp'
VANILLA_STYLE = dict(color='gray', linestyle='--')


def draw_pareto(rows: Sequence[dict], path: Path) -> None:
    """One panel for multiply-accumulates and one for each batch size, a row of panels for each config.

    A method is a colour and a number of epochs a marker; ratios of both are joined by a line. Bars are standard
    deviations over seeds; the dashed line is vanilla at each number of epochs.

    Args:
        rows (Sequence[dict]): Of :func:`~harness.table.make_rows`.
        path (Path): Of the picture.
    """
    rows = [row for row in rows if row.get('value') is not None]
    configs = list(dict.fromkeys(row['config'] for row in rows))
    sizes = sorted({size for row in rows for size in row['latency']})
    panels = [('GMACs', lambda row: row['gmacs'])]
    panels += [(f'latency at batch {size}, ms', _latency(size)) for size in sizes]
    figure = new_figure(4.8 * len(panels) + 1.5, 4.2 * max(1, len(configs)), dpi=120)
    grid = figure.subplots(max(1, len(configs)), len(panels), squeeze=False)
    for config, axes_of_config in zip(configs, grid):
        chosen = [row for row in rows if row['config'] == config]
        for axes, (title, value) in zip(axes_of_config, panels):
            _panel(axes, [row for row in chosen if value(row) is not None], value, _styles(rows))
            axes.set_xlabel(title)
        axes_of_config[0].set(ylabel=metric_title(chosen[0]['metric']), title=config)
    add_legend(figure)
    figure.savefig(path)


def method_colors(rows: Sequence[dict]) -> dict[str, dict]:
    """Colour and line of every method of a table that has a result, by its label."""
    labels = dict.fromkeys(row['label'] for row in rows if row['label'] != VANILLA and row.get('value') is not None)
    colors = {label: dict(color=COLORS[place % len(COLORS)], linestyle='-' if place < len(COLORS) else ':')
              for place, label in enumerate(labels)}
    return {VANILLA: VANILLA_STYLE, **colors}


def add_legend(figure: Figure) -> None:
    """One legend beside all panels, in which a name stands once."""
    handles = {label: line for axes in figure.axes for line, label in zip(*axes.get_legend_handles_labels())}
    figure.legend(handles.values(), handles.keys(), loc='outside right upper', fontsize='small')


def row_name(row: dict) -> str:
    """Method and, where it was trained, number of epochs, as a legend has them."""
    return row['label'] if not row['epochs'] else f"{row['label']}, {row['epochs']} epoch{'s' * (row['epochs'] > 1)}"


def _latency(size: int) -> Callable[[dict], float | None]:
    return lambda row: row['latency'].get(size, {}).get('median_ms')


def _styles(rows: Sequence[dict]) -> dict[tuple, dict]:
    """Colour and marker of every method at every number of epochs."""
    epochs = sorted({row['epochs'] for row in rows})
    return {(label, count): dict(marker=MARKERS[epochs.index(count) % len(MARKERS)], **color)
            for label, color in method_colors(rows).items() if label != VANILLA for count in epochs}


def _panel(axes: Axes, rows: list[dict], value: Callable[[dict], float], styles: dict) -> None:
    for row in rows:
        if row['label'] == VANILLA:
            axes.axhline(row['value'], linewidth=1, **VANILLA_STYLE)
            axes.errorbar([value(row)], [row['value']], yerr=row['spread'], color=VANILLA_STYLE['color'], marker='*',
                          markersize=10, linestyle='', label=row_name(row))
    for key, style in styles.items():
        curve = sorted((row for row in rows if (row['label'], row['epochs']) == key), key=value)
        if curve:
            bars = [row['spread'] or 0 for row in curve]
            axes.errorbar([value(row) for row in curve], [row['value'] for row in curve], capsize=2, markersize=5,
                          yerr=bars if any(bars) else None, label=row_name(curve[0]), **style)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(alpha=0.3)
