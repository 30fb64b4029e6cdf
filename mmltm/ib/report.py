"""What a training log says about one layer's information bottleneck.

The step of the mask (Eq. 2) does not need the input features, IB loss and IB bound do. Their class centroids are kept
here, in a random projection of the flattened tokens. The joint distribution of phi(X~) and phi(X) over an epoch would
take C x C floats a layer beside Q, so the log gives means over batches of what a single batch estimates. An estimate of
mutual information from few samples is biased upwards; both informations in the IB loss are, and in part it cancels.
:class:`mmltm.evaluation.IBMetric` computes all of it over a whole data set.
"""

import torch
import torch.nn as nn
from torch import Tensor

from .bottleneck import BottleneckSums
from .centroids import ClassCentroids
from .precision import full_precision
from .ranks import sum_over_ranks
from .targets import BatchTargets


class BottleneckReport(nn.Module):
    """Centroids of the input features, and running means of what there is to report.

    Of the ``input_dims`` = N d numbers in the tokens of a sample a random projection leaves ``stat_dim``. Further
    arguments are those of :class:`ClassCentroids`.
    """

    #: IB loss, IB bound, I(X~, X) and I(X~, Y) in nats; L1 change of a mask column by the step, from 0 to 2.
    keys = ('ib_loss', 'ib_bound', 'mi_input', 'mi_label', 'mask_step')

    sums: Tensor

    def __init__(self, num_classes: int, input_dims: int, stat_dim: int | None = 64, **kwargs) -> None:
        super().__init__()
        self.inputs = ClassCentroids(num_classes, 1, input_dims, stat_dim, **kwargs)
        self.register_buffer('sums', torch.zeros(len(self.keys) + 1))

    @torch.no_grad()
    def observe(self, tokens: Tensor, targets: BatchTargets) -> Tensor:
        """Add the tokens (n, N, d) of a batch to the centroids of this epoch; returns them projected."""
        features = self.inputs.project(tokens.flatten(1)[:, None])
        self.inputs.accumulate(features, targets)
        return features

    @torch.no_grad()
    @full_precision
    def add(self, features: Tensor, phi: Tensor, q: Tensor, targets: BatchTargets, mask_step: Tensor) -> None:
        """Add a batch to the means: what :meth:`observe` gave, phi (n, C) over the classes that have a Q, and Q (C, C).

        A batch without any target counts for nothing, nor does one that came before there was a Q.
        """
        if not len(targets.classes):
            return
        batch = BottleneckSums.of(phi, self.inputs.assign(features), targets.shares.to(phi.dtype))
        loss, merged_input, merged_label = batch.ib_loss()
        bound, _ = batch.ib_bound(q.T[targets.classes].T)
        values = (loss, bound, merged_input, merged_label, mask_step, torch.ones_like(loss))
        self.sums += torch.where(phi.any() & (batch.mass > 0), torch.stack(values), 0)

    @torch.no_grad()
    def summary(self) -> dict[str, float]:
        """Means since the last call, over all ranks; none if nothing was added. Collective."""
        sum_over_ranks(self.sums)
        *sums, count = self.sums.tolist()
        self.sums.zero_()
        return {key: value / count for key, value in zip(self.keys, sums)} if count else {}

    def restart_epoch(self) -> None:
        """As :meth:`ClassCentroids.restart_epoch`."""
        self.sums.zero_()

    def synchronize(self) -> None:
        """As :meth:`ClassCentroids.synchronize`. Collective."""
        self.sums /= sum_over_ranks(self.sums)
