"""The information bottleneck of token merging in pure PyTorch: bounds, mask gradient, streaming statistics.

Wang and Yang, "Efficient Visual Transformer by Learnable Token Merging", arXiv 2407.15219. Notation: n
samples, C classes; N tokens Z_i of D channels are merged into P tokens X~_i = G^T Z_i; X_i are the input
features.
"""

from .assignment import class_centroids, conditional_assignment, soft_assignment
from .bottleneck import BottleneckSums, ib_bound, ib_loss, mutual_information
from .centroids import ClassCentroids
from .gradient import bound_direction, mask_gradient
from .inputs import target_distribution
from .posterior import PosteriorFrame
from .report import BottleneckReport
from .statistics import ClassStatistics
from .targets import BatchTargets, ObjectBoxes

__all__ = [
    'BatchTargets', 'BottleneckReport', 'BottleneckSums', 'ClassCentroids', 'ClassStatistics', 'ObjectBoxes',
    'PosteriorFrame', 'bound_direction', 'class_centroids', 'conditional_assignment',
    'ib_bound', 'ib_loss', 'mask_gradient', 'mutual_information', 'soft_assignment', 'target_distribution'
]
