"""Evaluation metrics of mmltm."""

from .ib_metric import IBMetric

__all__ = ['IBMetric']
