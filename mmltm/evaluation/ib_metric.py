"""The information bottleneck of every layer over a data set (Tables 6 to 8 and Figure 2 of the paper).

Wang and Yang, "Efficient Visual Transformer by Learnable Token Merging", arXiv 2407.15219, section 3.2.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.runner import autocast
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmltm.errors import UserError
from mmltm.ib import BottleneckSums, ClassCentroids
from mmltm.ib.assignment import conditional_from_joint
from mmltm.ib.ranks import sum_over_ranks
from mmltm.merging.base import Merger
from mmltm.merging.trace import MergeCall, MergeTrace
from mmltm.registry import METRICS
from mmltm.structures.class_distribution import class_distribution

from .layers import block_tokens, find_layers, merger_tokens

HOOK_HINT = "IBMetric sees no features by itself: add dict(type='mmltm.IBMetricHook') to custom_hooks"


@METRICS.register_module()
class IBMetric(BaseMetric):
    """IB loss, IB bound and both mutual informations of every layer, for any token merger and for none.

    It takes two passes over the data: one for the class centroids, which :class:`~mmltm.engine.hooks.IBMetricHook`
    makes before the evaluation, and the evaluation itself. Features are taken where they arise, in the forward passes,
    and only sums are kept, 16 C^2 bytes and twice the centroids a layer. X are the tokens that enter a merger, X~ those
    that leave it; for a vanilla backbone both are the block's own tokens. Tokens that leave a merger without a grid
    (ToMe, ToFu, EViT, LTMP) do not mean the same in every image: of these, X and X~ are copies of the tokens in all
    places of the full grid that went into them, and tokens that were dropped are what they were then. ``restored=True``
    brings the tokens of all mergers back like this, so that different ones can be compared. Q(a|y) is that of the same
    data. Needs labels in the data, as in validation, and data that come the same way twice.

    Results are named ``<prefix>/<layer>/<key>``, with the keys ``ib_loss``, ``ib_bound``, ``c0``, ``mi_input``
    (I(X~, X)) and ``mi_label`` (I(X~, Y)), all in nats; ib_loss <= ib_bound - c0 (Theorem 3.1).

    Args:
        num_classes (int, optional): C. Defaults to the number of ``classes`` in the data set's metainfo.
        layers (str, optional): Regular expression for the names of the modules to measure. Defaults to all mergers, or,
            if there are none, all transformer blocks, see :func:`~mmltm.evaluation.layers.find_layers`.
        window (int): Side of the window over which tokens of a layer without one of its own are averaged, and of all
            layers with ``restored``. Defaults to 7.
        beta (float): Inverse temperature of phi. Defaults to 10.0, as for the masks; the paper has 1.
        normalize (bool): L2-normalise features before distances. Defaults to True.
        center (bool): Subtract the mean feature before that. Defaults to True.
        stat_dim (int, optional): Channels left of a token by a random projection; None is exact. Defaults to 16.
        input_dim (int, optional): Dimensions left of all tokens of X by a further one; None is exact. Defaults to 64.
        restored (bool): Measure the tokens of mergers that keep a grid on the full grid of their stage, too, where
            ``unmerge`` of their operators brings them. Defaults to False.
        **kwargs: Arguments of mmengine's ``BaseMetric``.

    Raises:
        UserError: No hook, no layers, or no usable annotations.
        ValueError: NaN or infinite features; names the layer.
    """

    default_prefix = 'ib'

    def __init__(self, num_classes: int | None = None, layers: str | None = None, window: int = 7, beta: float = 10.0,
                 normalize: bool = True, center: bool = True, stat_dim: int | None = 16, input_dim: int | None = 64,
                 restored: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.num_classes, self.pattern, self.window, self.restored = num_classes, layers, window, restored
        self.space: dict[str, Any] = dict(beta=beta, normalize=normalize, center=center)
        self.stat_dim, self.input_dim = stat_dim, input_dim
        self._layers: dict[str, _Layer] = {}
        self._handles: list = []
        self._trace: MergeTrace | None = None
        self._targets = torch.empty(0)
        self._first = True
        self._seen = self._size = 0

    @torch.no_grad()
    def first_pass(self, model: BaseModel, dataloader: DataLoader, fp16: bool = False) -> None:
        """Compute the centroids, and begin to watch the model, not wrapped, for the second pass. Collective.

        The model is left in evaluation mode; ``fp16`` runs it under autocast.
        """
        self.begin(model, dataloader)
        model.eval()
        print_log(f'IBMetric: first of two passes over {len(dataloader)} batches', logger='current')
        for index, data_batch in enumerate(dataloader):
            with autocast(enabled=fp16):
                model.val_step(data_batch)
            if (index + 1) % 50 == 0:
                print_log(f'IBMetric: first pass [{index + 1}/{len(dataloader)}]', logger='current')
        self.finish_first()

    def begin(self, model: nn.Module, dataloader: DataLoader) -> None:
        """Begin to watch the model; whoever calls it makes the passes, the first up to :meth:`finish_first`."""
        if self.num_classes is None:
            classes = (self.dataset_meta or {}).get('classes')
            if classes is None:
                raise UserError('IBMetric: the data set names no classes: set num_classes of the metric')
            self.num_classes = len(classes)
        self.forget()
        self._size = len(dataloader.dataset)  # type: ignore[arg-type]  # torch's Dataset declares no __len__
        signature = inspect.signature(model.forward)

        def before(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            self._take_targets(signature.bind(*args, **kwargs).arguments.get('data_samples'))

        modules = find_layers(model, self.pattern)
        self._handles = [model.register_forward_pre_hook(before, with_kwargs=True)]
        mergers = {name for name, module in modules.items() if isinstance(module, Merger)}

        def take_merge(call: MergeCall) -> None:
            if call.name in mergers:
                self._take(call.name, lambda batch: merger_tokens(call, batch, self.window, self.restored))

        self._trace = MergeTrace(model, take_merge, track=True)
        self._trace.start()
        for name in modules.keys() - mergers:
            self._handles.append(modules[name].register_forward_hook(partial(self._take_block, name), with_kwargs=True))

    def finish_first(self) -> None:
        """Turn the first pass into class centroids. Collective."""
        for layer in self._layers.values():
            layer.merged.finish_epoch()
            layer.inputs.finish_epoch()
        self._first, self._seen = False, 0

    def process(self, data_batch: Any, data_samples: list[dict]) -> None:
        """Nothing is left to do for a batch whose features have been seen in its forward pass."""
        if self._first:
            raise UserError(HOOK_HINT)

    def evaluate(self, size: int = 0) -> dict[str, float]:
        """Metrics of all layers from the sums of all ranks, without padding whatever the ``size``. Collective."""
        metrics = self.compute_metrics(self.results)
        self.forget()
        return {f'{self.prefix}/{key}': value for key, value in metrics.items()}

    def compute_metrics(self, results: list) -> dict[str, float]:
        """From the layers' sums, see :meth:`evaluate`; ``results`` is empty."""
        if not self._layers:
            raise UserError(HOOK_HINT)
        return {f'{name}/{key}': value for name, layer in self._layers.items()
                for key, value in layer.metrics().items()}

    def forget(self) -> None:
        """Leave the model as it was, and begin anew."""
        for handle in self._handles:
            handle.remove()
        if self._trace is not None:
            self._trace.stop()
        self._handles, self._layers, self._targets, self._trace = [], {}, torch.empty(0), None
        self._first, self._seen = True, 0

    def _take_targets(self, data_samples: list | None) -> None:
        assert self.num_classes is not None  # by begin
        self._targets = class_distribution(data_samples, self.num_classes)
        # Samplers repeat samples until all ranks have as many; mmengine drops these results, too.
        batch = torch.arange(self._seen, self._seen + len(self._targets))
        self._targets[batch * get_world_size() + get_rank() >= self._size] = 0
        self._seen += len(self._targets)

    def _take_block(self, name: str, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        self._take(name, lambda batch: (block_tokens(kwargs, output, batch, self.window), ) * 2)

    def _take(self, name: str, tokens_of: Callable[[int], tuple[Tensor, Tensor]]) -> None:
        tokens, merged = tokens_of(len(self._targets))
        if name not in self._layers:
            space = dict(self.space, num_classes=self.num_classes, name=name)
            centroids = ClassCentroids(
                num_tokens=merged.shape[1], embed_dims=merged.shape[2], stat_dim=self.stat_dim, **space)
            input_dims = tokens.shape[1] * centroids.centroids.shape[-1]
            inputs = ClassCentroids(num_tokens=1, embed_dims=input_dims, stat_dim=self.input_dim, **space)
            self._layers[name] = _Layer(centroids.to(tokens.device), inputs.to(tokens.device))
        layer, targets = self._layers[name], self._targets.to(tokens.device)
        (layer.first if self._first else layer.second)(tokens, merged, targets)


class _Layer:
    """Two passes over the tokens of one layer: class centroids, then the sums behind IB and IBB."""

    def __init__(self, merged: ClassCentroids, inputs: ClassCentroids) -> None:
        self.merged, self.inputs = merged, inputs
        self.sums: BottleneckSums | None = None

    def first(self, tokens: Tensor, merged: Tensor, targets: Tensor) -> None:
        self.merged.update(self.merged.project(merged), targets)
        self.inputs.update(self._input_features(tokens), targets)

    def second(self, tokens: Tensor, merged: Tensor, targets: Tensor) -> None:
        phi_merged = self.merged.assign(self.merged.project(merged))
        phi_input = self.inputs.assign(self._input_features(tokens))
        batch = [value.double() for value in BottleneckSums.of(phi_merged, phi_input, targets)]
        if self.sums is None:
            self.sums = BottleneckSums(*batch)
        else:
            for total, value in zip(self.sums, batch):
                total += value

    def metrics(self) -> dict[str, float]:
        assert self.sums is not None  # the second pass calls the layers of the first
        sum_over_ranks(*self.sums)
        loss, merged_input, merged_label = self.sums.ib_loss()
        bound, c0 = self.sums.ib_bound(conditional_from_joint(self.sums.joint_label))
        return dict(ib_loss=loss.item(), ib_bound=bound.item(), c0=c0.item(), mi_input=merged_input.item(),
                    mi_label=merged_label.item())

    def _input_features(self, tokens: Tensor) -> Tensor:
        return self.inputs.project(self.merged.project(tokens).flatten(1)[:, None])
