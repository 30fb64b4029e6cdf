"""The targets of a batch, checked once for all layers: those of images, and of their windows."""

import math
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

    def among(self, classes: Tensor) -> 'ObjectBoxes':
        """The same with labels that are places in ``classes``, ascending."""
        return self._replace(labels=torch.searchsorted(classes, self.labels))

    def totals(self, images: int, classes: int, rows: Sequence[float], cols: Sequence[float]) -> Tensor:
        """Area of each class's boxes in each window, (images, windows, classes)."""
        areas = self.overlaps(rows, cols).flatten(1)
        totals = areas.new_zeros(images * classes, areas.shape[1])
        totals.index_add_(0, self.images * classes + self.labels, areas)
        return totals.view(images, classes, areas.shape[1]).mT


class LabelMaps(NamedTuple):
    """The class of each pixel of the network's inputs, padding included."""
    labels: Tensor  # (n, H, W), whole numbers; negative: no class

    def among(self, classes: Tensor) -> 'LabelMaps':
        """The same with labels that are places in ``classes``, ascending."""
        places = torch.searchsorted(classes, self.labels.contiguous())
        return LabelMaps(torch.where(self.labels < 0, self.labels, places))

    def totals(self, images: int, classes: int, rows: Sequence[float], cols: Sequence[float]) -> Tensor:
        """Pixels of each class with their centre in each window, (images, windows, classes)."""
        labels, places = self.labels, []
        for edges, side in ((rows, labels.shape[1]), (cols, labels.shape[2])):
            centres = (torch.arange(side, device=labels.device) + 0.5) / side
            places.append(torch.bucketize(centres, centres.new_tensor(edges), right=True) - 1)
        (y, x), size = places, (images, len(rows) - 1, len(cols) - 1, classes)
        inside = ((y >= 0) & (y < size[1]))[:, None] & (x >= 0) & (x < size[2])
        image = torch.arange(images, device=labels.device)[:, None, None]
        bins = ((image * size[1] + y[:, None]) * size[2] + x) * classes + labels
        # What is in no window or of no class goes to a bin of its own: to leave it out, the host would wait for a GPU.
        bins = torch.where(inside & (labels >= 0), bins, math.prod(size)).flatten()
        totals = bins.new_zeros(math.prod(size) + 1).scatter_add_(0, bins, torch.ones_like(bins))
        return totals[:-1].view(images, size[1] * size[2], classes)


class BatchTargets(NamedTuple):
    """Target distributions of a batch over those classes alone that occur in it.

    With 1000 classes and 32 images, sums over the classes at hand take a thirtieth of the work. To know them the host
    must look at the values, which on a GPU it should do once a batch, not once a layer.
    """
    classes: Tensor  # (k,), indices of the classes with a positive share, ascending
    shares: Tensor  # (n, k), p_i(y) of these classes
    #: What is where, labelled by place among classes. None: windows have the classes of their image.
    places: ObjectBoxes | LabelMaps | None = None

    @classmethod
    def of(cls, targets: Union[Tensor, 'BatchTargets'], num_classes: int,
           places: ObjectBoxes | LabelMaps | None = None) -> 'BatchTargets':
        """From (n,) class indices or (n, C) distributions, and perhaps the boxes or label maps behind them."""
        if isinstance(targets, BatchTargets):
            return targets
        p = target_distribution(targets, num_classes)
        occurs = (p > 0).any(0)
        if isinstance(places, ObjectBoxes):
            occurs = occurs.index_fill(0, places.labels, True)
        classes = occurs.nonzero().flatten()
        return cls(classes, p[:, classes], places and places.among(classes))

    def for_windows(self, rows: Sequence[float], cols: Sequence[float]) -> 'BatchTargets':
        """Targets of the windows of all images, n R C samples in the order (image, row, column).

        With boxes, a window has the classes of the objects that it overlaps, weighted by the areas of overlap; with
        label maps, those of its pixels. A window without any has a row of zeros, so that it takes no part. For the
        edges see :meth:`ObjectBoxes.overlaps`.
        """
        (images, classes), windows = self.shares.shape, (len(rows) - 1) * (len(cols) - 1)
        if self.places is None:
            return BatchTargets(self.classes, self.shares.repeat_interleave(windows, 0))
        totals = self.places.totals(images, classes, rows, cols).flatten(0, 1).to(self.shares.dtype)
        return BatchTargets(self.classes, F.normalize(totals, p=1.0, dim=1))

    def to(self, device: torch.device) -> 'BatchTargets':
        places = self.places and type(self.places)(*(x.to(device) for x in self.places))
        return BatchTargets(self.classes.to(device), self.shares.to(device), places)
