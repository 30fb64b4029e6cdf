"""Class centroids of one layer's features, streamed through an epoch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .assignment import assign_by_products, class_bias
from .constants import KeepsConstants
from .gradient import inverse
from .inputs import check_batch, check_rows
from .precision import full_precision
from .projection import orthogonal_projection, principal_projection
from .ranks import sum_over_ranks
from .targets import BatchTargets


class Frame(NamedTuple):
    """What assignments have in common for a whole epoch, all of it small."""
    origin: Tensor  # (P d,), from which features and centroids are seen
    scale: Tensor  # (C,), inverse norms of the centroids about it
    bias: Tensor  # (C,), see class_bias
    present: Tensor  # (C,) bool, classes that have a centroid


class ClassCentroids(KeepsConstants):
    """Class means of the features of the last epoch, the soft assignment to them, and the sums of this epoch.

    Features are P tokens of D channels, projected to d channels (:meth:`project`). A training step calls
    :meth:`update`, the end of an epoch :meth:`finish_epoch`. All state is in float32 buffers, 8 C (P d + 1) + 4 D d
    bytes. Meanwhile every rank has sums of its own. Hence train with ``broadcast_buffers=False`` (the default of
    mmengine, not of PyTorch), and call :meth:`synchronize` before saving a checkpoint in mid-epoch.

    Args:
        num_classes (int): C.
        num_tokens (int): P.
        embed_dims (int): D, channels of a token.
        stat_dim (int, optional): d, channels left by the projection. None, D or more: exact. Defaults to 16.
        beta (float): Inverse temperature of phi. Defaults to 1.0, as in the paper.
        normalize (bool): L2-normalise features and centroids before distances. Defaults to False.
        center (bool): Subtract the mean of all samples before that, without which features that share a large offset
            all point the same way. Defaults to False.
        name (str): What error messages call the layer. Defaults to ''.

    Attributes:
        centroids (Tensor): (C, P, d) class means, of the last epoch with the class; zero if never seen.
        counts (Tensor): (C,) samples behind them.
    """

    projection: Tensor | None
    centroids: Tensor
    counts: Tensor
    epoch_features: Tensor
    epoch_counts: Tensor

    def __init__(self, num_classes: int, num_tokens: int, embed_dims: int, stat_dim: int | None = 16,
                 beta: float = 1.0, normalize: bool = False, center: bool = False, name: str = '') -> None:
        super().__init__()
        self.num_classes, self.beta, self.normalize, self.center = num_classes, beta, normalize, center
        self.embed_dims, self.name = embed_dims, name
        exact = stat_dim is None or stat_dim >= embed_dims
        channels = embed_dims if stat_dim is None or exact else stat_dim
        device = torch.get_default_device()  # that of the other buffers
        self.register_buffer('projection', None if exact else orthogonal_projection(embed_dims, channels).to(device))
        self.register_buffer('centroids', torch.zeros(num_classes, num_tokens, channels))
        self.register_buffer('counts', torch.zeros(num_classes))
        self.register_buffer('epoch_features', torch.zeros_like(self.centroids))
        self.register_buffer('epoch_counts', torch.zeros_like(self.counts))

    @property
    def started(self) -> bool:
        """Whether any sample has been seen. Asking makes the host wait for the device."""
        return bool(self.counts.any() or self.epoch_counts.any())

    @full_precision
    def project(self, tokens: Tensor) -> Tensor:
        """Tokens in the space of the statistics, (..., D) to (..., d). Linear: it commutes with merging."""
        return tokens if self.projection is None else tokens @ self.projection.to(tokens.dtype)

    @torch.no_grad()
    @full_precision
    def fit_projection(self, tokens: Tensor) -> None:
        """Replace the random projection by the principal directions of ``tokens`` (..., D) over all ranks. Collective.

        Meant for a first batch, where the features are not about to change much (pre-trained weights). On features of
        photographs, 144 channels to 16, the mask gradient then had a cosine of 0.99 and more with the exact one; with
        random projections 0.5 to 0.95. Statistics start anew. Nothing happens without projection.
        """
        if self.projection is None:
            return
        with self._naming_layer():
            check_batch('tokens', tokens)
        tokens = tokens.flatten(0, -2)
        count, mean = tokens.new_tensor(float(len(tokens))), tokens.sum(0)
        sum_over_ranks(count, mean)
        tokens = tokens - mean / count
        covariance = tokens.T @ tokens
        sum_over_ranks(covariance)
        self.projection.copy_(principal_projection(covariance, self.projection.shape[1]))
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """Forget all samples."""
        self._forget()
        self.centroids.zero_()
        self.counts.zero_()
        self.restart_epoch()

    @property
    def _epoch_sums(self) -> tuple[Tensor, ...]:
        return self.epoch_features, self.epoch_counts

    @torch.no_grad()
    def restart_epoch(self) -> None:
        """Drop the sums of an epoch that is about to begin again."""
        for total in self._epoch_sums:
            total.zero_()

    @full_precision
    def assign(self, features: Tensor) -> Tensor:
        """phi of features (n, P, d) over the classes that have a centroid, (n, C). Differentiable."""
        return self._assign(*self._aligned(features))

    def _assign(self, features: Tensor, anchors: Tensor) -> Tensor:
        frame = self._frame()
        if self.normalize:
            features = F.normalize(features)
        products = 2 * self.beta * features @ anchors.T
        return assign_by_products(products * frame.scale if self.normalize else products, frame.bias, frame.present)

    def _aligned(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (n, P d) and centroids (C, P d), about the origin."""
        # Without normalisation it changes no distance, but keeps a large common offset out of the rounding errors.
        origin = self._frame().origin
        return features.flatten(1) - origin, self.centroids.flatten(1) - origin

    def _frame(self) -> Frame:
        return self.kept('frame', self._new_frame, ('centroids', 'counts'))

    def _new_frame(self) -> Frame:
        anchors, present = self.centroids.flatten(1), self.counts > 0
        origin = self.counts @ anchors / self.counts.sum().clamp_min(torch.finfo(anchors.dtype).tiny)
        if self.normalize and not self.center:
            origin = torch.zeros_like(origin)
        norms = (anchors - origin).norm(dim=1)
        squared_norms = (norms > 0).to(norms) if self.normalize else norms.square()
        return Frame(origin, inverse(norms), class_bias(squared_norms, self.beta, present), present)

    def update(self, features: Tensor, targets: Tensor | BatchTargets) -> None:
        """Add a batch to the sums of this epoch: projected features (n, P, d), and targets. Errors name the layer."""
        with self._naming_layer():
            targets = BatchTargets.of(targets, self.num_classes)
            check_rows(features=features, targets=targets.shares)
            check_batch('features', features)
            if features.shape[1:] != self.centroids.shape[1:]:
                raise ValueError(f'features of shape {tuple(features.shape)} do not match centroids of shape '
                                 f'{tuple(self.centroids.shape)}')
        self.accumulate(features, targets)

    @torch.no_grad()
    @full_precision
    def accumulate(self, features: Tensor, targets: BatchTargets) -> None:
        """:meth:`update` without its checks, for callers that make them once for many layers."""
        shares = targets.shares.to(features.dtype)
        sums = (shares.T @ features.flatten(1)).unflatten(1, self.centroids.shape[1:])
        self.epoch_features.index_add_(0, targets.classes, sums)
        self.epoch_counts.index_add_(0, targets.classes, shares.sum(0))

    @torch.no_grad()
    def finish_epoch(self) -> None:
        """Turn the sums of this epoch, over all ranks, into statistics. Absent classes keep theirs. Collective."""
        sum_over_ranks(*self._epoch_sums)
        self._finish()
        self.restart_epoch()

    def _finish(self) -> None:
        self._forget()
        occurs = self.epoch_counts > 0
        means = self.epoch_features / torch.where(occurs, self.epoch_counts, 1)[:, None, None]
        self.centroids.copy_(torch.where(occurs[:, None, None], means, self.centroids))
        self.counts.copy_(torch.where(occurs, self.epoch_counts, self.counts))

    @torch.no_grad()
    def synchronize(self) -> None:
        """Give every rank an equal share of the sums of this epoch, so that all can resume from one. Collective."""
        for total in self._epoch_sums:
            total /= sum_over_ranks(total)

    def mismatch(self, state_dict: dict, prefix: str = '') -> str | None:
        """Why the statistics in a state dict, if any, are not those of such a layer, in one line, or None."""
        if prefix + 'centroids' not in state_dict:
            return None
        for key, axes in (('centroids', 'classes, tokens, channels'), ('projection', 'channels before, after')):
            saved, own = (None if tensor is None else tuple(tensor.shape)
                          for tensor in (state_dict.get(prefix + key), getattr(self, key)))
            if saved != own:
                return (f'statistics of layer {prefix.rstrip(".") or self.name}: {key} ({axes}) of shape '
                        f'{saved} in the checkpoint, {own} in the model')
        return None

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys,
                              error_msgs) -> None:
        """All or nothing: statistics of another layer are reported as an error and none of them is loaded."""
        message = self.mismatch(state_dict, prefix)
        if message:
            error_msgs.append(message)
        else:
            super()._load_from_state_dict(
                state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)

    @contextmanager
    def _naming_layer(self) -> Iterator[None]:
        """Put the name of the layer before the message of a ValueError."""
        try:
            yield
        except ValueError as error:
            raise ValueError(f'statistics of layer {self.name}: {error}') from None

    def extra_repr(self) -> str:
        (classes, tokens, channels), size = self.centroids.shape, sum(buffer.nbytes for buffer in self.buffers())
        return (f'classes={classes}, tokens={tokens}, channels={channels}, exact={self.projection is None}, '
                f'beta={self.beta}, normalize={self.normalize}, {size / 1e6:.1f} MB')
