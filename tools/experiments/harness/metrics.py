"""Metrics of cells: which one tables are about, what they call it, and how two methods are compared by it."""

import math
from collections.abc import Container, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

TOP1 = 'accuracy/top1'
#: Heading and decimals of metrics by their name, in order of preference: of mmpretrain, of mmdet.
TITLES = {
    TOP1: ('top-1, %', 2),
    'coco/segm_mAP': ('mask AP', 3),
    'coco/bbox_mAP': ('box AP', 3),
    'coco/segm_mAP_50': ('mask AP50', 3),
    'coco/bbox_mAP_50': ('box AP50', 3),
}
#: Where images cannot be compared one by one, seeds must tell, and fewer of them have no spread to speak of.
FEWEST_SEEDS = 3


def main_metric(found: Container[str], wanted: str | None = None) -> str | None:
    """The metric that is asked for, or else the first of :data:`TITLES` that a cell has."""
    return wanted or next((name for name in TITLES if name in found), None)


def metric_title(name: str) -> str:
    """Heading of a column: the last part of the name for metrics that are not known."""
    return TITLES[name][0] if name in TITLES else name.rpartition('/')[2]


def metric_digits(name: str | None) -> int:
    """Decimals to be shown."""
    return TITLES[name][1] if name in TITLES else 4


class Difference(NamedTuple):
    """Of two methods: the mean of one less that of the other, and its standard error, None where nothing tells it."""
    value: float
    standard_error: float | None


def difference(ours: Sequence[dict], theirs: Sequence[dict], metric: str) -> Difference:
    """Metric of one method less that of another; each is given as its cells, one a seed.

    Accuracies are compared image by image, :func:`paired_difference`; others, such as AP, which is no mean over
    images, by Welch's standard error over the seeds, if both methods have :data:`FEWEST_SEEDS` of them.
    """
    if metric == TOP1 and all(cell['correct'] for cell in (*ours, *theirs)):
        return paired_difference([cell['correct'] for cell in ours], [cell['correct'] for cell in theirs])
    values = [[cell['metrics'][metric] for cell in cells if metric in cell['metrics']] for cells in (ours, theirs)]
    error = float(np.hypot(*map(stats.sem, values))) if min(map(len, values)) >= FEWEST_SEEDS else None
    return Difference(float(np.mean(values[0]) - np.mean(values[1])), error)


def paired_difference(ours: Sequence[str], theirs: Sequence[str]) -> Difference:
    """Accuracy of one method less that of another in points (percent), image by image.

    With d_i the difference on image i, a method's value being its share of seeds that get the image right, this is
    the mean of d_i and its standard error sqrt(sum_i (d_i - mean)^2 / (n (n - 1))), NaN for a single image. The error
    says what other images would change; what other seeds would, the spread over seeds says.

    Args:
        ours (Sequence[str]): Of every seed "0" and "1", one an image.
        theirs (Sequence[str]): Of the other method, on the same images in the same order.

    Raises:
        ValueError: The numbers of images differ, or there is none.
    """
    counts = {len(correct) for correct in (*ours, *theirs)}
    if len(counts) != 1 or not (ours and theirs) or 0 in counts:
        raise ValueError(f'paired methods need the same images, got numbers {sorted(counts)}')
    rates = [np.array([[mark == '1' for mark in correct] for correct in seeds]).mean(0) for seeds in (ours, theirs)]
    points = 100 * (rates[0] - rates[1])
    return Difference(float(points.mean()), float(stats.sem(points)) if len(points) > 1 else math.nan)
