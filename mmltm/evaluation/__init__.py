"""Evaluation metrics of mmltm."""

from .dump_label_maps import DumpLabelMaps
from .ib_metric import IBMetric

__all__ = ['DumpLabelMaps', 'IBMetric']
