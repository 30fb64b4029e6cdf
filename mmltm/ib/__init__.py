"""The information bottleneck of token merging in pure PyTorch: bounds, mask gradient, streaming statistics.

Wang and Yang, "Efficient Visual Transformer by Learnable Token Merging", arXiv 2407.15219. Notation: n samples, C
classes; N tokens Z_i of D channels are merged into P tokens X~_i = G^T Z_i; X_i are the input features. Targets are
(n,) class indices or (n, C) distributions, of which a row of zeros leaves its sample out. Functions raise a ValueError
in one line for an empty batch, features that are not finite, bad targets, and shapes that do not match.
"""

from .assignment import class_centroids, conditional_assignment, soft_assignment
from .bottleneck import BottleneckSums, ib_bound, ib_loss
from .centroids import ClassCentroids
from .gradient import bound_direction, mask_gradient
from .inputs import target_distribution
from .report import BottleneckReport
from .statistics import ClassStatistics, FoldedStatistics
from .targets import BatchTargets, LabelMaps, ObjectBoxes

__all__ = [
    'BatchTargets', 'BottleneckReport', 'BottleneckSums', 'ClassCentroids', 'ClassStatistics', 'FoldedStatistics',
    'LabelMaps', 'ObjectBoxes', 'bound_direction', 'class_centroids', 'conditional_assignment',
    'ib_bound', 'ib_loss', 'mask_gradient', 'soft_assignment', 'target_distribution'
]
