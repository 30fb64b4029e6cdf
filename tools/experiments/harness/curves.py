"""Training loss against epochs (Figure 3 of the paper).

Wang and Yang, "Efficient Visual Transformer by Learnable Token Merging", arXiv 2407.15219.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator

from mmltm.visualization.figures import new_figure

from .plot import MARKERS, add_legend, method_colors, row_name


def with_curves(rows: Sequence[dict]) -> list[dict]:
    """The rows of a table that have trained for two epochs or more."""
    return [row for row in rows if len(row.get('losses', ())) > 1]


def draw_curves(rows: Sequence[dict], path: Path) -> None:
    """One panel for each config: the loss that was minimised, mean over an epoch and over seeds.

    A method is the colour that it has in :func:`~harness.plot.draw_pareto`, and a ratio a marker. What a
    method adds to the loss, for distillation or a budget, is part of it.

    Args:
        rows (Sequence[dict]): Of :func:`~harness.table.make_rows`; those :func:`with_curves` are drawn.
        path (Path): Of the picture.
    """
    colors, rows = method_colors(rows), with_curves(rows)
    configs = list(dict.fromkeys(row['config'] for row in rows))
    ratios = sorted({row['ratio'] for row in rows if row['ratio']}, reverse=True)
    figure = new_figure(7.5, 4.2 * len(configs), dpi=120)
    for config, axes in zip(configs, figure.subplots(len(configs), 1, squeeze=False).flat):
        for row in (row for row in rows if row['config'] == config):
            losses = np.array(row['losses'], float)  # NaN for None
            marker = MARKERS[ratios.index(row['ratio']) % len(MARKERS)] if row['ratio'] else '*'
            name = f"{row_name(row)}, ratio {row['ratio']:g}" if row['ratio'] else row_name(row)
            axes.plot(np.arange(1, len(losses) + 1), losses, marker=marker, markersize=4, label=name,
                      **colors[row['label']])
        axes.set(title=config, xlabel='epoch', ylabel='training loss')
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
        axes.grid(alpha=0.3)
    add_legend(figure)
    figure.savefig(path)
