"""All that is written of a folder of results for people and programs."""

import json
from pathlib import Path

from mmltm.errors import UserError

from .cell import VANILLA
from .curves import draw_curves, with_curves
from .experiment import saved_experiment
from .ib_layers import draw_ib_layers, ib_layers_table
from .plot import draw_pareto
from .table import make_rows, to_markdown, write_csv

NAME = 'comparison'
CURVES = 'curves.png'
IB_LAYERS = 'ib_layers.md'


def write_report(out_dir: Path, metric: str | None = None) -> list[dict]:
    """Write the table, as ``comparison.md``, ``.csv`` and ``.json``, and the plot, ``comparison.png``.

    Plots show the methods that an experiment names for them, or all. Where cells have trained for two epochs or more,
    ``curves.png`` shows their losses; where IB was measured in a space that mergers have in common, ``ib_layers.png`` and
    ``.md`` show it by layer.

    Args:
        out_dir (Path): Folder of results.
        metric (str, optional): What the table is about, see :func:`~harness.table.make_rows`.

    Returns:
        list[dict]: The rows.

    Raises:
        UserError: There are no results.
    """
    out_dir = Path(out_dir)
    rows = make_rows(out_dir, metric)
    if not rows:
        raise UserError(f'{out_dir} holds no results')
    (out_dir / f'{NAME}.md').write_text(to_markdown(rows))
    (out_dir / f'{NAME}.json').write_text(json.dumps(dict(rows=rows), indent=1) + '\n')
    write_csv(rows, out_dir / f'{NAME}.csv')
    labels = saved_experiment(out_dir).get('plot') or ()
    shown = [row for row in rows if not labels or row['label'] in (VANILLA, *labels)]
    draw_pareto(shown, out_dir / f'{NAME}.png')
    if with_curves(shown):
        draw_curves(shown, out_dir / CURVES)
    if draw_ib_layers(out_dir, labels):
        (out_dir / IB_LAYERS).write_text(ib_layers_table(out_dir) + '\n')
    return rows
