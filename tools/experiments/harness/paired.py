"""Differences of two models on the same images."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Difference(NamedTuple):
    """Of accuracies, in points (percent).

    Attributes:
        points (float): Mean over all images.
        standard_error (float): Of that mean, from the scatter over the images; NaN for a single image.
    """
    points: float
    standard_error: float


def paired_difference(ours: Sequence[str], theirs: Sequence[str]) -> Difference:
    """Accuracy of one method less that of another, image by image.

    With d_i the difference on image i, a method's value being its share of seeds that get the image right, this is
    the mean of d_i and sqrt(sum_i (d_i - mean)^2 / (n (n - 1))). The error says what other images would change; what
    other seeds would, the spread over seeds says.

    Args:
        ours (Sequence[str]): Of every seed "0" and "1", one an image.
        theirs (Sequence[str]): Of the other method, on the same images in the same order.

    Raises:
        ValueError: The numbers of images differ, or there is none.
    """
    counts = {len(correct) for correct in (*ours, *theirs)}
    if len(counts) != 1 or not (ours and theirs) or 0 in counts:
        raise ValueError(f'paired methods need the same images, got numbers {sorted(counts)}')
    differences = _rates(ours) - _rates(theirs)
    count = len(differences)
    error = differences.std(ddof=1) / math.sqrt(count) if count > 1 else math.nan
    return Difference(100 * float(differences.mean()), 100 * float(error))


def _rates(seeds: Sequence[str]) -> np.ndarray:
    """For every image the share of seeds that get it right."""
    return np.array([[mark == '1' for mark in correct] for correct in seeds]).mean(0)
