"""Evaluation metrics of mmltm."""

from .ib_metric import IBMetric, measure_together

__all__ = ['IBMetric', 'measure_together']
