"""The targets of a batch, checked once for all layers: those of images, and of their windows."""

from collections.abc import Sequence
from typing import NamedTuple, Union

import torch
import torch.nn.functional as F
from torch import Tensor

from .inputs import target_distribution


class ObjectBoxes(NamedTuple):
    """Where the objects of a batch of images are."""
    corners: Tensor  # (m, 4): x0, y0, x1, y1 as fractions of the network's input, padding included
    labels: Tensor  # (m,), their classes
    images: Tensor  # (m,), indices of the images that they are in

    def overlaps(self, rows: Sequence[float], cols: Sequence[float]) -> Tensor:
        """The area that each box shares with each window, (m, R, C), in areas of the input.

        Windows lie between R + 1 horizontal and C + 1 vertical edges, ascending fractions of height and width.
        """
        x0, y0, x1, y1 = self.corners[..., None].unbind(1)
        y, x = self.corners.new_tensor(rows), self.corners.new_tensor(cols)
        heights = (torch.minimum(y1, y[1:]) - torch.maximum(y0, y[:-1])).clamp_min(0)
        widths = (torch.minimum(x1, x[1:]) - torch.maximum(x0, x[:-1])).clamp_min(0)
        return heights[:, :, None] * widths[:, None]


class BatchTargets(NamedTuple):
    """Target distributions of a batch over those classes alone that occur in it.

    With 1000 classes and 32 images, sums over the classes at hand take a thirtieth of the work. To know them the host
    must look at the values, which on a GPU it should do once a batch, not once a layer.
    """
    classes: Tensor  # (k,), indices of the classes with a positive share, ascending
    shares: Tensor  # (n, k), p_i(y) of these classes
    #: Objects of the images, labelled by their place among classes. None: windows have the classes of their image.
    boxes: ObjectBoxes | None = None

    @classmethod
    def of(cls, targets: Union[Tensor, 'BatchTargets'], num_classes: int,
           boxes: ObjectBoxes | None = None) -> 'BatchTargets':
        """From (n,) class indices or (n, C) distributions, and perhaps the boxes of the objects behind them."""
        if isinstance(targets, BatchTargets):
            return targets
        p = target_distribution(targets, num_classes)
        occurs = (p > 0).any(0)
        if boxes is not None:
            occurs = occurs.index_fill(0, boxes.labels, True)
        classes = occurs.nonzero().flatten()
        if boxes is not None:
            boxes = boxes._replace(labels=torch.searchsorted(classes, boxes.labels))
        return cls(classes, p[:, classes], boxes)

    def for_windows(self, rows: Sequence[float], cols: Sequence[float]) -> 'BatchTargets':
        """Targets of the windows of all images, n R C samples in the order (image, row, column).

        With boxes, a window has the classes of the objects that it overlaps, weighted by the areas of overlap. A
        window of background alone has a row of zeros, so that it takes no part. For the edges see
        :meth:`ObjectBoxes.overlaps`.
        """
        (images, classes), windows = self.shares.shape, (len(rows) - 1) * (len(cols) - 1)
        if self.boxes is None:
            return BatchTargets(self.classes, self.shares.repeat_interleave(windows, 0))
        areas = self.boxes.overlaps(rows, cols).flatten(1).to(self.shares.dtype)
        totals = areas.new_zeros(images * classes, windows)
        totals.index_add_(0, self.boxes.images * classes + self.boxes.labels, areas)
        totals = totals.view(images, classes, windows).mT.flatten(0, 1)
        return BatchTargets(self.classes, F.normalize(totals, p=1.0, dim=1))

    def to(self, device: torch.device) -> 'BatchTargets':
        boxes = None if self.boxes is None else ObjectBoxes(*(x.to(device) for x in self.boxes))
        return BatchTargets(self.classes.to(device), self.shares.to(device), boxes)
