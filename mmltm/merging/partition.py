"""Groups of neighbouring cells, all of about one size: masks that blur no token they need not."""

import math
from functools import cache

import numpy as np
import torch
from scipy.cluster.hierarchy import cut_tree, linkage
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor

from .grids import Grid

#: Cells are moved by up to this much before they are grouped: on a regular grid all neighbours are equally near, and
#: whichever pair came first would draw all merging into one corner.
JITTER = 0.2


def local_partition(source: Grid, target: Grid, base: Grid) -> Tensor:
    """Ones where a source cell goes into a target cell, each into one, (N, P); no column is empty.

    One tree joins the cells of the window as it was before any merge, by Ward's criterion (Ward, "Hierarchical
    Grouping to Optimize an Objective Function", JASA 1963); source and target cells are its branches at N and at P. So
    groups stay of one size however often a window is merged, and need be no rectangles: from 8 x 8 to 7 x 7 cells, 15
    pairs all over the map are joined, where intervals on both axes would join two whole rows and two whole columns.
    """
    mask = torch.zeros(math.prod(source), math.prod(target), dtype=torch.float64)
    mask[_groups(base, source), _groups(base, target)] = 1
    return mask


@cache
def _tree(base: Grid) -> np.ndarray:
    cells = _middles(base, base)
    return linkage(cells + np.random.default_rng(0).uniform(-JITTER, JITTER, cells.shape), 'ward')


@cache
def _groups(base: Grid, grid: Grid) -> np.ndarray:
    """Cell of ``grid`` that each cell of ``base`` is part of, (h w,), as near as can be to where it comes from."""
    count = math.prod(grid)
    if count == 1:
        return np.zeros(math.prod(base), dtype=np.int64)
    groups = cut_tree(_tree(base), count)[:, 0]
    members = np.eye(count)[groups]
    found = members.T @ _middles(base, base) / members.sum(0)[:, None]
    groups_of_places = linear_sum_assignment(cdist(_middles(grid, base), found, 'sqeuclidean'))[1]
    return np.argsort(groups_of_places)[groups]


def _middles(grid: Grid, base: Grid) -> np.ndarray:
    """Middles of the cells of a grid laid over ``base``, in its cells, (h w, 2)."""
    axes = [(np.arange(count) + 0.5) * size / count for count, size in zip(grid, base)]
    return np.stack(np.meshgrid(*axes, indexing='ij'), -1).reshape(math.prod(grid), 2)
