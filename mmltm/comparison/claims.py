"""What the cells of an experiment say of its claims."""

import math
import statistics
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from .experiment import saved_experiment
from .metrics import main_metric, metric_digits, metric_title
from .paired import paired_difference
from .results import load_results

#: A claim is decided where the difference exceeds so many standard errors.
ERRORS = 2
#: Where images cannot be compared one by one, seeds must tell, and fewer of them have no spread to speak of.
FEWEST_SEEDS = 3


def judged(out_dir: Path) -> List[dict]:
    """The claims of a folder of results, each with what the cells say of it.

    Returns:
        list[dict]: ``text``; ``metric``, its name; ``difference``, the value of ours less theirs; its
        ``standard_error``, over images as pairs for classifiers, else over seeds, None with fewer than three of them;
        and ``verdict``: 'held' or 'not held' where the difference is beyond two standard errors, else 'undecided at
        this budget'; 'not measured' where a cell is missing.
    """
    experiment = saved_experiment(out_dir)
    if not experiment:
        return []
    cells = {cell['key']: cell for cell in load_results(out_dir) if cell['status'] == 'done'}
    return [_judged(claim, cells, experiment.get('metric')) for claim in experiment['claims']]


def _judged(claim: dict, cells: Dict[str, dict], metric: Optional[str]) -> dict:
    ours, theirs = ([cells[key] for key in claim[side] if key in cells] for side in ('ours', 'theirs'))
    if not (ours and theirs):
        return dict(text=claim['text'], metric=metric, difference=None, standard_error=None, verdict='not measured')
    metric = main_metric(ours[0]['metrics'], metric)
    difference, error = _difference(ours, theirs, metric)
    undecided = error is None or abs(difference) <= ERRORS * error
    verdict = 'undecided at this budget' if undecided else 'held' if difference > 0 else 'not held'
    return dict(text=claim['text'], metric=metric, difference=difference, standard_error=error, verdict=verdict)


def _difference(ours: Sequence[dict], theirs: Sequence[dict], metric: str) -> Tuple[float, Optional[float]]:
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
    metric = next((row['metric'] for row in rows if row['metric']), None)
    unit = 'points' if metric in (None, 'accuracy/top1') else metric_title(metric)
    lines = [f'| claim | difference, {unit} | verdict |', '| --- | ---: | --- |']
    lines += [f"| {row['text']} | {_signed(row)} | {row['verdict']} |" for row in rows]
    if unit != 'points':
        lines += ['', f'{unit} is no mean over images, so seeds alone can tell: ± is the standard error over them; '
                  f'with fewer than {FEWEST_SEEDS} of each method a claim stays undecided.']
    return '\n'.join(lines)


def _signed(row: dict) -> str:
    if row['difference'] is None:
        return ''
    digits, error = metric_digits(row['metric']), row['standard_error']
    return f"{row['difference']:+.{digits}f}" + ('' if error is None else f' ± {error:.{digits}f}')
