"""What the cells of an experiment say of its claims."""

from pathlib import Path
from statistics import fmean

import numpy as np

from .experiment import saved_experiment
from .ib_layers import KEYS, common_layers, mean_by_layer
from .markdown import number, table
from .metrics import FEWEST_SEEDS, TOP1, difference, main_metric, metric_digits, metric_title
from .results import by_method, load_results

#: A claim is decided where the difference exceeds so many standard errors.
ERRORS = 2
#: Slower by this share is as fast, for claims at equal latency.
TOLERANCE = 0.02
UNDECIDED = 'undecided at this budget'


def judged(out_dir: Path) -> list[dict]:
    """The claims of a folder of results, each with what the cells say of it.

    Returns:
        list[dict]: ``text``; ``metric``, its name; ``difference``, the value of ours less theirs; its
        ``standard_error``, see :func:`~harness.metrics.difference`; and ``verdict``: 'held' or 'not held' where the
        difference is beyond two standard errors, else 'undecided at this budget'; 'not measured' where a cell is
        missing. Claims about IB loss or bound, of which there is one number a layer, are decided where all layers
        agree. At equal latency theirs is the best of their ratios that is as fast; where none is, the claim is 'held:
        none of theirs is as fast'.
    """
    experiment = saved_experiment(out_dir)
    if not experiment:
        return []
    cells = {cell['key']: cell for cell in load_results(out_dir) if cell['status'] == 'done'}
    times = {(key, timing['batch_size']): timing['median_ms'] for result in load_results(out_dir, 'latency')
             for model in result['models'] for key in model['cells'] for timing in model['timings']}
    return [dict(text=claim['text'], **_judged(claim, cells, times, experiment.get('metric')))
            for claim in experiment['claims']]


def _judged(claim: dict, cells: dict[str, dict], times: dict[tuple[str, int], float], metric: str | None) -> dict:
    ours, theirs = ([cells[key] for key in claim[side] if key in cells] for side in ('ours', 'theirs'))
    quantity, error = claim.get('quantity'), None
    if quantity:
        ours, theirs = ([cell for cell in cells if common_layers(cell)] for cells in (ours, theirs))
    nothing = dict(metric=metric, difference=None, standard_error=None, verdict='not measured')
    if not (ours and theirs):
        return nothing
    if 'latency' in claim:
        if any((cell['key'], claim['latency']) not in times for cell in (*ours, *theirs)):
            return nothing
        limit = (1 + TOLERANCE) * times[ours[0]['key'], claim['latency']]
        fast = by_method([cell for cell in theirs if times[cell['key'], claim['latency']] <= limit])
        if not fast:
            return dict(nothing, verdict='held: none of theirs is as fast')
        theirs = max(fast, key=lambda method: fmean(cell['metrics'][main_metric(cell['metrics'], metric)]
                                                    for cell in method))
    if quantity:
        by_layer = [mean_by_layer(cells, quantity) for cells in (ours, theirs)]
        if claim['ours'] == claim['theirs']:  # that it falls: each layer less the next one
            differences = -np.diff([by_layer[0][layer] for layer in sorted(by_layer[0])])
        else:
            common = by_layer[0].keys() & by_layer[1]
            differences = np.array([by_layer[0][layer] - by_layer[1][layer] for layer in common])
        metric, value = quantity, float(differences.mean())
        held, lost = (differences > 0).all(), (differences <= 0).all()
    else:
        metric = main_metric(ours[0]['metrics'], metric)
        value, error = difference(ours, theirs, metric)
        held, lost = (error is not None and sign * value > ERRORS * error for sign in (1, -1))
    verdict = 'held' if held else 'not held' if lost else UNDECIDED
    return dict(metric=metric, difference=value, standard_error=error, verdict=verdict)


def claims_table(out_dir: Path) -> str:
    """The claims as Markdown, with a line on seeds where they decide; empty where there is no claim."""
    rows = judged(out_dir)
    if not rows:
        return ''
    metric = next((row['metric'] for row in rows if row['metric'] not in (None, *KEYS)), None)
    unit = 'points' if metric in (None, TOP1) else metric_title(metric)
    parts = [table(['claim', f'difference, {unit}', 'verdict'],
                   [[row['text'], _signed(row), row['verdict']] for row in rows], align='lrl')]
    if any(row['metric'] in KEYS for row in rows):
        parts.append('Where the difference is in nats it is a mean over layers, and a claim is decided where all of '
                     'them agree.')
    if unit != 'points':
        parts.append(f'{unit} is no mean over images, so seeds alone can tell: ± is the standard error over them; '
                     f'with fewer than {FEWEST_SEEDS} of each method a claim stays undecided.')
    return '\n\n'.join(parts)


def _signed(row: dict) -> str:
    text = number(row['difference'], metric_digits(row['metric']), '+', row['standard_error'])
    return f'{text} nats' if text and row['metric'] in KEYS else text
