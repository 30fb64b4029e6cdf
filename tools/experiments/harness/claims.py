"""What the cells of an experiment say of its claims."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from mmltm.apis.results import load_results
from mmltm.visualization.ib_curves import Position

from .experiment import saved_experiment
from .ib_layers import KEYS, common_layers, mean_by_layer
from .metrics import main_metric, metric_digits, metric_title
from .paired import paired_difference

#: A claim is decided where the difference exceeds so many standard errors.
ERRORS = 2
#: Where images cannot be compared one by one, seeds must tell, and fewer of them have no spread to speak of.
FEWEST_SEEDS = 3
UNDECIDED = 'undecided at this budget'


def judged(out_dir: Path) -> list[dict]:
    """The claims of a folder of results, each with what the cells say of it.

    Returns:
        list[dict]: ``text``; ``metric``, its name; ``difference``, the value of ours less theirs; its
        ``standard_error``, over images as pairs for classifiers, else over seeds, None with fewer than three of them;
        and ``verdict``: 'held' or 'not held' where the difference is beyond two standard errors, else 'undecided at
        this budget'; 'not measured' where a cell is missing. Claims about IB loss or bound, of which there is one
        number a layer, are decided where all layers agree.
    """
    experiment = saved_experiment(out_dir)
    if not experiment:
        return []
    cells = {cell['key']: cell for cell in load_results(out_dir) if cell['status'] == 'done'}
    return [_judged(claim, cells, experiment.get('metric')) for claim in experiment['claims']]


def _judged(claim: dict, cells: dict[str, dict], metric: str | None) -> dict:
    ours, theirs = ([cells[key] for key in claim[side] if key in cells] for side in ('ours', 'theirs'))
    quantity = claim.get('quantity')
    if quantity:
        ours, theirs = ([cell for cell in cells if common_layers(cell)] for cells in (ours, theirs))
    if not (ours and theirs):
        return _row(claim, metric, None, None, 'not measured')
    if quantity:
        return _row(claim, quantity, *_by_layer(mean_by_layer(ours, quantity), mean_by_layer(theirs, quantity),
                                                falling=claim['ours'] == claim['theirs']))
    metric = main_metric(ours[0]['metrics'], metric)
    difference, error = _difference(ours, theirs, metric)
    undecided = error is None or abs(difference) <= ERRORS * error
    verdict = UNDECIDED if undecided else 'held' if difference > 0 else 'not held'
    return _row(claim, metric, difference, error, verdict)


def _row(claim: dict, metric: str | None, difference: float | None, error: float | None,
         verdict: str) -> dict:
    return dict(text=claim['text'], metric=metric, difference=difference, standard_error=error, verdict=verdict)


def _by_layer(ours: dict[Position, float], theirs: dict[Position, float],
              falling: bool) -> tuple[float, None, str]:
    """Mean difference over the layers that both have, or of each layer from the next one if it is to fall."""
    if falling:
        values = [ours[layer] for layer in sorted(ours)]
        differences = [before - after for before, after in zip(values, values[1:])]
    else:
        differences = [ours[layer] - theirs[layer] for layer in ours.keys() & theirs.keys()]
    above = {difference > 0 for difference in differences}
    verdict = UNDECIDED if len(above) != 1 else 'held' if above.pop() else 'not held'
    return statistics.fmean(differences), None, verdict


def _difference(ours: Sequence[dict], theirs: Sequence[dict], metric: str) -> tuple[float, float | None]:
    if metric == 'accuracy/top1' and all(cell['correct'] for cell in (*ours, *theirs)):
        return paired_difference([cell['correct'] for cell in ours], [cell['correct'] for cell in theirs])
    values = [[cell['metrics'][metric] for cell in cells] for cells in (ours, theirs)]
    difference = statistics.fmean(values[0]) - statistics.fmean(values[1])
    if min(map(len, values)) < FEWEST_SEEDS:
        return difference, None
    return difference, math.sqrt(sum(statistics.variance(seeds) / len(seeds) for seeds in values))


def claims_table(out_dir: Path) -> str:
    """The claims as Markdown, with a line on seeds where they decide; empty where there is no claim."""
    rows = judged(out_dir)
    if not rows:
        return ''
    metric = next((row['metric'] for row in rows if row['metric'] not in (None, *KEYS)), None)
    unit = 'points' if metric in (None, 'accuracy/top1') else metric_title(metric)
    lines = [f'| claim | difference, {unit} | verdict |', '| --- | ---: | --- |']
    lines += [f"| {row['text']} | {_signed(row)} | {row['verdict']} |" for row in rows]
    if any(row['metric'] in KEYS for row in rows):
        lines += ['', 'Where the difference is in nats it is a mean over layers, and a claim is decided where all of them '
                  'agree.']
    if unit != 'points':
        lines += ['', f'{unit} is no mean over images, so seeds alone can tell: ± is the standard error over them; '
                  f'with fewer than {FEWEST_SEEDS} of each method a claim stays undecided.']
    return '\n'.join(lines)


def _signed(row: dict) -> str:
    if row['difference'] is None:
        return ''
    digits, error = metric_digits(row['metric']), row['standard_error']
    unit = ' nats' if row['metric'] in KEYS else ''
    return f"{row['difference']:+.{digits}f}" + ('' if error is None else f' ± {error:.{digits}f}') + unit
