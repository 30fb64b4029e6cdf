"""Mergers side by side in one harness: cells of a grid, their results as JSON, tables and plots of these."""

from .results import load_result, load_results, save_result
from .setting import setting

__all__ = ['load_result', 'load_results', 'save_result', 'setting']
