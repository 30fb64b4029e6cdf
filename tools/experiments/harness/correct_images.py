"""Which images of a data set a classifier gets right, so that two models can be compared image by image."""

from typing import Any

import torch
from mmengine.evaluator import BaseMetric


class CorrectImages(BaseMetric):
    """Keeps, beside other metrics, whether the class predicted for each image is one of its labels.

    Attributes:
        correct (str, optional): After an evaluation "0" or "1" for each image, in the order of the data set.
    """
    default_prefix = 'correct'
    correct: str | None = None

    def process(self, data_batch: Any, data_samples: list[dict]) -> None:
        """Compares the predictions of a batch with its labels."""
        self.results += [bool(torch.isin(sample['pred_label'], sample['gt_label']).all()) for sample in data_samples]

    def compute_metrics(self, results: list[bool]) -> dict[str, float]:
        """Adds no number to those of other metrics."""
        self.correct = ''.join('01'[right] for right in results)
        return {}
