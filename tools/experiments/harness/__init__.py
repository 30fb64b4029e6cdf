"""Mergers side by side: cells of a grid, their results as JSON, tables, plots and pages made of these."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))  # the package of this checkout, wherever it was installed from

import mmltm  # noqa: E402, F401  (before mmdet, for its stand-in for mmcv's compiled operators)
