"""What is made of a folder of results: tables and pictures beside the cells, and its block of a page."""

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mmltm.apis.runtimes import EXPORTED
from mmltm.errors import UserError

from . import ib_layers
from .cell import VANILLA
from .claims import claims_table
from .costs import Paper, latency_table, macs_table
from .experiment import saved_experiment
from .ib_layers import draw_ib_layers, ib_layers_table
from .plots import draw_curves, draw_pareto, with_curves
from .result_file import load_result
from .results import load_results
from .table import make_rows, to_markdown

NAME = 'comparison'
CURVES = 'curves.png'
IB_LAYERS = 'ib_layers.md'
_TABLES = dict(macs=macs_table, benchmark=latency_table)
_BESIDE = {f'{NAME}.png': 'accuracy against cost', CURVES: 'training loss',
           ib_layers.FILE: 'information bottleneck by layer', IB_LAYERS: 'its table'}


def write_report(out_dir: Path, metric: str | None = None) -> pd.DataFrame:
    """Write the table, as ``comparison.md`` and ``.csv``, and the plot, ``comparison.png``.

    Plots show the methods that an experiment names for them, or all. Where cells have trained for two epochs or more,
    ``curves.png`` shows their losses; where IB was measured in a space that mergers have in common, ``ib_layers.png``
    and ``.md`` show it by layer.

    Args:
        out_dir (Path): Folder of results.
        metric (str, optional): What the table is about, see :func:`~harness.table.make_rows`.

    Returns:
        DataFrame: The rows.

    Raises:
        UserError: There are no results.
    """
    out_dir = Path(out_dir)
    rows = make_rows(out_dir, metric)
    if rows.empty:
        raise UserError(f'{out_dir} holds no results')
    (out_dir / f'{NAME}.md').write_text(to_markdown(rows))
    rows.drop(columns=['overrides', 'losses']).to_csv(out_dir / f'{NAME}.csv', index=False)
    labels = saved_experiment(out_dir).get('plot') or ()
    shown = rows[rows.label.isin([VANILLA, *labels])] if labels else rows
    draw_pareto(shown, out_dir / f'{NAME}.png')
    if len(with_curves(shown)):
        draw_curves(shown, out_dir / CURVES)
    if draw_ib_layers(out_dir, labels):
        (out_dir / IB_LAYERS).write_text(ib_layers_table(out_dir) + '\n')
    return rows


def block(name: str, folder: Path, page: Path) -> str:
    """Markdown of the results called ``name``: their table, pictures, what they were measured on, and the commands.

    Args:
        name (str): ``folder/name.json`` is a file of rows, or ``folder/name`` a folder of cells.
        folder (Path): Of results; ``paper.json`` in it holds the paper's numbers.
        page (Path): Of which the block is a part, for links.
    """
    path = folder / f'{name}.json'
    if path.exists():
        result = load_result(path)
        return '\n\n'.join([_TABLES[result['kind']](result, Paper(folder / 'paper.json')),
                            _origin([dict(result['setting'], **run) for run in result['runs']])])
    cells = load_results(folder / name)
    if not cells:
        return f'*Not measured yet: there is no `{folder.name}/{name}`.*'
    command = saved_experiment(folder / name).get('command')
    return '\n\n'.join(filter(None, [
        to_markdown(make_rows(folder / name)).strip(), claims_table(folder / name), _links(folder / name, page),
        _origin([dict(cell['setting'], command=command) for cell in cells])]))


def _links(folder: Path, page: Path) -> str:
    """The pictures and pages that a report has left in a folder of results."""
    links = [f'[{text}]({Path(os.path.relpath(folder / picture, page.parent)).as_posix()})'
             for picture, text in _BESIDE.items() if (folder / picture).exists()]
    return f"Beside it: {', '.join(links)}." if links else ''


def _origin(settings: Sequence[dict]) -> str:
    """Hardware, versions, dates, revisions and, folded away, the commands of some runs."""
    where = dict.fromkeys(map(_where, settings))
    dates = sorted({setting['date'][:10] for setting in settings})
    revisions = dict.fromkeys(
        f"{(setting['revision'] or 'none')[:10]}{' and changes to it' if setting['dirty'] else ''}"
        for setting in settings)
    text = f"{'; '.join(where)}; {' to '.join(dict.fromkeys([dates[0], dates[-1]]))}; "
    text += f"revision {', '.join(revisions)}"
    commands = list(dict.fromkeys(setting['command'] for setting in settings if setting.get('command')))
    if not commands:
        return text + '.'
    wrapped = [' \\\n'.join(textwrap.wrap(command, 110, subsequent_indent='    ', break_on_hyphens=False,
                                          break_long_words=False)) for command in commands]
    return '\n'.join([f'<details><summary>{text}: commands</summary>', '', '```bash', *wrapped, '```', '',
                      '</details>'])


def _where(setting: dict) -> str:
    count = setting['threads']
    threads = f"{count} thread{'s' if count > 1 else ''}" if setting['device'] == 'cpu' else ''
    precision = 'autocast' if setting.get('amp') else setting['dtype']
    versions = [f'{name} {setting[name]}' for name in ('torch', *EXPORTED) if name in setting]
    return ', '.join(filter(None, [setting['hardware'], threads, precision, *versions]))
