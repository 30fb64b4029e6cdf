"""The block of a page that one result file, or one folder of cells, gives."""

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path

from harness import ib_layers
from harness.claims import claims_table
from harness.costs import latency_table, macs_table
from harness.experiment import saved_experiment
from harness.paper import Paper
from harness.report import CURVES, IB_LAYERS, NAME
from harness.table import make_rows, to_markdown
from mmltm.apis.results import load_result, load_results

_TABLES = dict(macs=macs_table, benchmark=latency_table)
_BESIDE = {f'{NAME}.png': 'accuracy against cost', CURVES: 'training loss',
           ib_layers.FILE: 'information bottleneck by layer', IB_LAYERS: 'its table'}


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
                            origin([dict(result['setting'], **run) for run in result['runs']])])
    cells = load_results(folder / name)
    if cells:
        command = saved_experiment(folder / name).get('command')
        return '\n\n'.join(filter(None, [
            to_markdown(make_rows(folder / name)).strip(), claims_table(folder / name), _links(folder / name, page),
            origin([dict(cell['setting'], command=command) for cell in cells])]))
    return f'*Not measured yet: there is no `{folder.name}/{name}`.*'


def _links(folder: Path, page: Path) -> str:
    """The pictures and pages that a report has left in a folder of results."""
    links = [f'[{text}]({Path(os.path.relpath(folder / picture, page.parent)).as_posix()})'
             for picture, text in _BESIDE.items() if (folder / picture).exists()]
    return f"Beside it: {', '.join(links)}." if links else ''


def origin(settings: Sequence[dict]) -> str:
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
    return '\n'.join([f'<details><summary>{text}: commands</summary>', '', '```bash', *_wrapped(commands), '```', '',
                      '</details>'])


def _where(setting: dict) -> str:
    parts = [setting['hardware']]
    if setting['device'] == 'cpu':
        parts.append(f"{setting['threads']} thread{'s' if setting['threads'] > 1 else ''}")
    return ', '.join([*parts, 'autocast' if setting.get('amp') else setting['dtype'], f"torch {setting['torch']}"])


def _wrapped(commands: Sequence[str]) -> list[str]:
    return [' \\\n'.join(textwrap.wrap(command, 110, subsequent_indent='    ', break_on_hyphens=False,
                                       break_long_words=False)) for command in commands]
