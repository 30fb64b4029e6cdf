"""An experiment: cells of one config, written down in a file, and the claims that they are to decide."""

import itertools
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

from mmengine.config import Config

from mmltm.utils.errors import UserError

from .cell import Cell, off_the_shelf, unique
from .paired import paired_difference
from .results import load_result, load_results, save_result

#: A claim is decided where the difference exceeds so many standard errors.
ERRORS = 2
FILE = 'experiment.json'


class Experiment(NamedTuple):
    """What a file of an experiment says.

    Attributes:
        name (str): Of the file.
        title (str): First line of its docstring.
        vanilla (str): Config that the checkpoint comes from, without suffix.
        cells (list[Cell]): The vanilla one first.
        claims (list[dict]): ``text``, and ``ours`` and ``theirs``, keys of cells.
    """
    name: str
    title: str
    vanilla: str
    cells: List[Cell]
    claims: List[dict]


def read_experiment(path: Path, checkpoint: str, configs: Path = Path('configs')) -> Experiment:
    """An experiment's cells, all of which start from one checkpoint.

    The file says ``config`` and ``vanilla``, configs without suffix; ``methods``, each with ``label``, ``merger``
    without ratio, and lists ``ratios`` (not with SoftMerging, which has ``p``), ``epochs`` and ``seeds`` (defaults to
    (0, )), ``overrides`` and ``hooks`` as :class:`~mmltm.comparison.cell.Cell` has them; ``overrides`` of all cells;
    and ``claims``, each with ``text`` and, in ``ours`` and ``theirs``, ``label``, ``ratio`` and ``epochs`` of a
    method.

    Args:
        path (Path): The file.
        checkpoint (str): Path of the vanilla weights.
        configs (Path): Folder of the configs. Defaults to that below the current folder.

    Raises:
        UserError: A claim is about no method.
    """
    said = Config.fromfile(str(path)).to_dict()
    common = dict(config=str(configs / f"{said['config']}.py"), checkpoint=checkpoint)
    shared = said.get('overrides', {})
    cells = [Cell(**common, overrides=shared)]
    for method in said['methods']:
        for merger, epochs, seed in itertools.product(_mergers(method), method['epochs'], method.get('seeds', (0, ))):
            cell = Cell(**common, label=method['label'], merger=merger, ratio=merger.get('ratio') or 1 / merger['p'],
                        epochs=epochs, seed=seed, overrides={**shared, **method.get('overrides', {})},
                        hooks=method.get('hooks', []))
            cells.append(cell if epochs else off_the_shelf(cell))
    cells = unique(cells)
    claims = [dict(text=claim['text'], ours=_keys(cells, claim['ours']), theirs=_keys(cells, claim['theirs']))
              for claim in said.get('claims', [])]
    title = path.read_text().split('"""')[1].splitlines()[0]
    return Experiment(path.stem, title, said['vanilla'], cells, claims)


def _mergers(method: dict) -> List[dict]:
    merger = method['merger']
    return [merger] if 'p' in merger else [dict(merger, ratio=ratio) for ratio in method['ratios']]


def _keys(cells: List[Cell], method: dict) -> List[str]:
    method = {'ratio': None, 'epochs': 0, **method}
    keys = [cell.key for cell in cells if all(getattr(cell, name) == value for name, value in method.items())]
    if not keys:
        raise UserError(f'a claim is about {method}, which is no method of the experiment')
    return keys


def save_claims(experiment: Experiment, out_dir: Path) -> None:
    """Keep title, command and claims beside the cells, for tables."""
    save_result(out_dir / FILE, dict(
        kind='experiment', title=experiment.title, claims=experiment.claims,
        command=f'python tools/reproduce/run.py {experiment.name} --data-root DIR'))


def saved_command(out_dir: Path) -> Optional[str]:
    """The command that made a folder of results, where an experiment did."""
    path = Path(out_dir) / FILE
    return load_result(path)['command'] if path.exists() else None


def judged(out_dir: Path) -> List[dict]:
    """The claims of a folder of results, each with what the cells say of it.

    Returns:
        list[dict]: ``text``; ``points``, the accuracy of ours less theirs, and its paired ``standard_error``; and
        ``verdict``: 'held' or 'not held' where the difference is beyond two standard errors, else 'undecided at
        this budget'; 'not measured' where a cell is missing.
    """
    path = Path(out_dir) / FILE
    if not path.exists():
        return []
    correct = {cell['key']: cell['correct'] for cell in load_results(out_dir) if cell['status'] == 'done'}
    return [_judged(claim, correct) for claim in load_result(path)['claims']]


def _judged(claim: dict, correct: Dict[str, Optional[str]]) -> dict:
    ours, theirs = ([correct[key] for key in claim[side] if correct.get(key)] for side in ('ours', 'theirs'))
    if not (ours and theirs):
        return dict(text=claim['text'], points=None, standard_error=None, verdict='not measured')
    points, error = paired_difference(ours, theirs)
    verdict = 'undecided at this budget' if abs(points) <= ERRORS * error else 'held' if points > 0 else 'not held'
    return dict(text=claim['text'], points=points, standard_error=error, verdict=verdict)


def claims_table(out_dir: Path) -> str:
    """The claims as Markdown; empty where there is none."""
    rows = judged(out_dir)
    if not rows:
        return ''
    lines = ['| claim | difference, points | verdict |', '| --- | ---: | --- |']
    for row in rows:
        difference = '' if row['points'] is None else f"{row['points']:+.2f} ± {row['standard_error']:.2f}"
        lines.append(f"| {row['text']} | {difference} | {row['verdict']} |")
    return '\n'.join(lines)
