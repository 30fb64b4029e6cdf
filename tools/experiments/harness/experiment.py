"""An experiment: cells of one config, written down in a file, and the claims that they are to decide."""

import ast
import itertools
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config

from mmltm.errors import UserError

from .cell import Cell, off_the_shelf, unique
from .result_file import load_result, save_result

FILE = 'experiment.json'


class Experiment(NamedTuple):
    """What a file of an experiment says.

    Attributes:
        name (str): Of the file.
        title (str): First line of its docstring.
        vanilla (list[str]): Configs, without suffix, that lead to the checkpoint, each trained from the weights of
            the one before; empty where all cells start from scratch.
        cells (list[Cell]): The vanilla ones first.
        claims (list[dict]): ``text``, and ``ours`` and ``theirs``, keys of cells.
        metric (str, optional): Name of the metric that the table and the claims are about, see
            :func:`~harness.metrics.main_metric`.
        batch_sizes (tuple[int]): Of latency.
        plot (list[str]): Labels of the methods that plots show, beside vanilla; empty for all.
    """
    name: str
    title: str
    vanilla: list[str]
    cells: list[Cell]
    claims: list[dict]
    metric: str | None
    batch_sizes: tuple[int, ...]
    plot: list[str]


def read_experiment(path: Path, checkpoint: str | None = None, configs: Path = Path('configs')) -> Experiment:
    """An experiment's cells, all of which start from one checkpoint, or all from scratch.

    The file says ``config`` without suffix; ``vanilla``, another or several, see :class:`Experiment`, if there is a
    checkpoint to start from; ``methods``, each with ``label``, ``merger`` without ratio, and lists ``ratios`` (not
    with SoftMerging, which has ``p``, nor where ``merger`` says a share for each block itself; then ``ratio`` is what
    tables call it), ``epochs`` and ``seeds`` (defaults to (0, )), ``overrides`` and ``hooks`` as
    :class:`~harness.cell.Cell` has them; ``overrides`` of all cells; ``metric``, if not the usual one;
    ``batch_sizes`` of latency (defaults to (1, 16)); ``plot``, the labels of the methods that plots show (defaults to
    all); and ``claims``, each with ``text`` and, in ``ours`` and
    ``theirs``, ``label``, ``ratio`` and ``epochs`` of a method. Ours is said to have the larger metric or, with
    ``quantity='ib_loss'`` or ``'ib_bound'``, the larger one in all layers; the same method twice, that it falls from
    layer to layer. With ``latency``, a batch size, ``theirs`` lists methods, the best of which that is as fast counts.
    The vanilla model is tested as it is or, without a checkpoint, trained like every method.

    Args:
        path (Path): The file.
        checkpoint (str, optional): Path of the vanilla weights. Defaults to None.
        configs (Path): Folder of the configs. Defaults to that below the current folder.

    Raises:
        UserError: There is no such config, a claim or ``plot`` is about no method, or a method without a checkpoint is
            not trained.
    """
    said = Config.fromfile(str(path)).to_dict()
    common = dict(config=str(config_path(said['config'], configs)), checkpoint=checkpoint)
    shared, methods, vanilla = said.get('overrides', {}), said['methods'], said.get('vanilla', [])
    trainings = [(0, 0)] if vanilla else dict.fromkeys(itertools.chain(*map(_trainings, methods)))
    cells = [Cell(**common, epochs=epochs, seed=seed, overrides=shared) for epochs, seed in trainings]
    for method in methods:
        for (merger, ratio), (epochs, seed) in itertools.product(_mergers(method), _trainings(method)):
            cell = Cell(**common, label=method['label'], merger=merger, ratio=ratio, epochs=epochs, seed=seed,
                        overrides={**shared, **method.get('overrides', {})}, hooks=method.get('hooks', []))
            cells.append(cell if epochs else off_the_shelf(cell))
    cells = unique(cells)
    if not (vanilla or all(cell.epochs for cell in cells)):
        raise UserError(f'{path.name} has methods with 0 epochs: say in `vanilla` whose weights they shall have')
    claims = [dict(claim, ours=_keys(cells, claim['ours']), theirs=_keys(cells, claim['theirs']))
              for claim in said.get('claims', [])]
    for label in said.get('plot', []):
        if all(cell.label != label for cell in cells):
            raise UserError(f'plot names {label!r}, which is no method of the experiment')
    return Experiment(
        path.stem, description(path).splitlines()[0], [vanilla] if isinstance(vanilla, str) else list(vanilla), cells,
        claims, said.get('metric'), tuple(said.get('batch_sizes', (1, 16))), list(said.get('plot', [])))


def description(path: Path) -> str:
    """What the docstring of a file says, of an experiment or a config; its name where there is none."""
    return ast.get_docstring(ast.parse(path.read_text())) or path.stem


def config_path(name: str, configs: Path) -> Path:
    """The one config of a name, without suffix, in whichever folder below ``configs``; or of a path.

    Raises:
        UserError: There is none or more than one.
    """
    path = configs / f'{name}.py'
    found = [path] if path.is_file() else sorted(configs.rglob(path.name))
    if len(found) != 1:
        raise UserError(f'{len(found)} configs below {configs} are called {name}.py; name one that exists')
    return found[0]


def _mergers(method: dict) -> list[tuple[dict, float]]:
    """Configs of mergers, each with the ratio that tables say."""
    merger = method['merger']
    if 'p' in merger:
        return [(merger, 1 / merger['p'])]
    if 'ratio' in merger:
        return [(merger, method['ratio'])]
    return [(dict(merger, ratio=ratio), ratio) for ratio in method['ratios']]


def _trainings(method: dict) -> list[tuple]:
    """Numbers of epochs, with a seed each."""
    return list(itertools.product(method['epochs'], method.get('seeds', (0, ))))


def _keys(cells: list[Cell], method: dict | list[dict]) -> list[str]:
    if isinstance(method, list):
        return [key for one in method for key in _keys(cells, one)]
    method = {'ratio': None, 'epochs': 0, **method}
    keys = [cell.key for cell in cells if all(getattr(cell, name) == value for name, value in method.items())]
    if not keys:
        raise UserError(f'a claim is about {method}, which is no method of the experiment')
    return keys


def save_experiment(experiment: Experiment, out_dir: Path) -> None:
    """Keep title, command, metric, claims and what to plot beside the cells, for tables and plots."""
    save_result(Path(out_dir) / FILE, dict(
        kind='experiment', title=experiment.title, metric=experiment.metric, claims=experiment.claims,
        plot=experiment.plot, command=f'python tools/experiments/run.py {experiment.name} --data-root DIR'))


def saved_experiment(out_dir: Path) -> dict:
    """What :func:`save_experiment` has kept; empty where a folder of results comes from no experiment."""
    path = Path(out_dir) / FILE
    return load_result(path) if path.exists() else {}
