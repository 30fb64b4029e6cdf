"""Latency of all models that cells have led to, against the vanilla one, in one interleaved run."""

import itertools
from collections.abc import Callable, Sequence

from mmengine.model import BaseModel
from mmengine.runner import Runner, find_latest_checkpoint
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from mmltm.apis.profiling import network_call, time_interleaved
from mmltm.errors import UserError
from mmltm.models.builder import load_model

from .measures import input_batches
from .resolve import ResolvedCell
from .result_file import env_info, load_result, save_result
from .results import FOLDERS

#: Different batches that rounds take in turn: the time of mergers with thresholds differs from image to image.
BATCHES = 4


def measure_latency(cells: Sequence[ResolvedCell],
                    batch_sizes: Sequence[int] = (1, 16),
                    rounds: int = 20,
                    warmup: int = 3) -> None:
    """Time the models of cells that have a result, post-processing included, and write a latency file a config.

    Cells whose models differ in weights alone and have equal operations share a model; those whose weights are gone
    are named and left out. Nothing is done for a config
    whose file is there and is of the same models, batch sizes, rounds, machine and threads.

    Args:
        cells (Sequence[ResolvedCell]): With results; a vanilla one for every config.
        batch_sizes (Sequence[int]): Images of a batch. Defaults to 1 and 16.
        rounds (int): That count. Defaults to 20.
        warmup (int): Rounds before. Defaults to 3.

    Raises:
        UserError: A config has no vanilla cell.
    """
    console = Console()

    def config_of(resolved: ResolvedCell) -> str:
        return resolved.cell.config

    for config, of_config in itertools.groupby(sorted(cells, key=config_of), config_of):
        groups = _groups(list(of_config))
        vanilla = groups[0][0]
        if vanilla.cell.merger is not None:
            raise UserError(f'no vanilla cell of {config}, with which the others could be compared')
        for group in groups:
            if _with_weights(group) is None:
                console.print(f'{group[0].key}: its weights are gone from {group[0].work_dir}, so it has no latency',
                              highlight=False)
        groups = [group for group in groups if _with_weights(group)]
        result = dict(
            kind='latency', config=vanilla.cell.config_name, rounds=rounds, batch_sizes=list(batch_sizes),
            setting=env_info(), models=[dict(cells=[cell.key for cell in group]) for group in groups])
        path = vanilla.out_dir / FOLDERS['latency'] / f'{result["config"]}.json'
        if path.is_file() and _signature(load_result(path)) == _signature(result):
            console.print(f'latency of {result["config"]}: taken from {path.name}', highlight=False)
            continue
        models = [_load(_with_weights(group)) for group in groups]
        _time(models, Runner.build_dataloader(vanilla.cfg.test_dataloader, seed=0), result, rounds, warmup, console)
        save_result(path, result)


def _groups(cells: list[ResolvedCell]) -> list[list[ResolvedCell]]:
    """Cells whose models cost the same together, the vanilla ones first."""
    groups: dict[tuple[str, float], list[ResolvedCell]] = {}
    for resolved in sorted(cells, key=lambda resolved: resolved.cell.merger is not None):
        result = load_result(resolved.result_path)
        groups.setdefault((result['digest']['model'], round(result['gmacs'], 9)), []).append(resolved)
    return list(groups.values())


def _signature(result: dict) -> tuple:
    """What must agree for a run to be taken over."""
    machine = [result['setting'][key] for key in ('hardware', 'threads', 'dtype', 'torch')]
    return result['rounds'], result['batch_sizes'], machine, [model['cells'] for model in result['models']]


def _with_weights(group: list[ResolvedCell]) -> ResolvedCell | None:
    """One of several cells that cost the same whose weights are there."""
    return next((cell for cell in sorted(group, key=lambda resolved: resolved.cell.epochs)
                 if not cell.cell.epochs or (cell.work_dir / 'last_checkpoint').is_file()), None)


def _load(resolved: ResolvedCell) -> BaseModel:
    trained = resolved.cell.epochs > 0
    return load_model(
        resolved.cfg, find_latest_checkpoint(str(resolved.work_dir)) if trained else resolved.cell.checkpoint)


def _time(models: list[BaseModel], loader, result: dict, rounds: int, warmup: int, console: Console) -> None:
    """Fill in what takes time."""
    for model in result['models']:
        model['timings'] = []
    with Progress(console=console, transient=True) as progress:
        for batch_size in result['batch_sizes']:
            batches = input_batches(loader, models[0], batch_size, BATCHES)
            result.setdefault('shape', list(batches[0].shape[-2:]))
            task = progress.add_task(f'latency, batch {batch_size}', total=rounds + warmup)
            timings = time_interleaved(
                [_in_turn(model, batches) for model in models], rounds, warmup, batches[0].device,
                lambda task=task: progress.advance(task))
            for model, timing in zip(result['models'], timings):
                ratio = timing.ratio_to(timings[0])
                model['timings'].append(dict(
                    batch_size=batch_size, median_ms=1e3 * timing.median,
                    quartiles_ms=[1e3 * value for value in timing.quartiles],
                    ratio=ratio.median, ratio_quartiles=list(ratio.quartiles)))


def _in_turn(model: BaseModel, batches: list[Tensor]) -> Callable[[], object]:
    """A call that sees the next batch every time, as those of the other models do."""
    calls = itertools.cycle([network_call(model, batch, predict=True) for batch in batches])
    return lambda: next(calls)()
