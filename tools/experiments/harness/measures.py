"""What is measured of a model beside its metrics: operations, memory, information bottleneck, images it gets right."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from torch import Tensor
from torch.utils.data import DataLoader

from mmltm.apis.profiling import count_macs, network_call, peak_bytes
from mmltm.errors import UserError, summary
from mmltm.evaluation import IBMetric
from mmltm.merging.trace import mergers_of

#: Images over which operations are averaged: those of mergers with thresholds differ from image to image.
MAC_IMAGES = 8


class CorrectImages(BaseMetric):
    """Keeps, beside other metrics, whether the class predicted for each image is one of its labels.

    Attributes:
        correct (str, optional): After an evaluation "0" or "1" for each image, in the order of the data set.
    """
    default_prefix = 'correct'
    correct: str | None = None

    def process(self, data_batch: Any, data_samples: list[dict]) -> None:
        """Compares the predictions of a batch with its labels."""
        self.results += [bool(torch.isin(sample['pred_label'], sample['gt_label']).all()) for sample in data_samples]

    def compute_metrics(self, results: list[bool]) -> dict[str, float]:
        """Adds no number to those of other metrics."""
        self.correct = ''.join('01'[right] for right in results)
        return {}


def spread_evenly(count: int, size: int) -> list[int]:
    """``count`` indices into a data set of ``size`` images, from all over it."""
    return [index * size // count for index in range(count)]


def input_batches(loader: DataLoader, model: BaseModel, batch_size: int, count: int) -> list[Tensor]:
    """Preprocessed batches of a data set's images, (B, 3, H, W) each, spread evenly over it.

    Args:
        loader (DataLoader): Whose data set and way to make a batch of samples.
        model (BaseModel): With the preprocessor, on whose device they will be.
        batch_size (int): B.
        count (int): Number of batches.
    """
    indices = spread_evenly(batch_size * count, len(loader.dataset))
    batches = []
    for start in range(0, len(indices), batch_size):
        samples = [loader.dataset[index] for index in indices[start:start + batch_size]]
        batches.append(model.data_preprocessor(loader.collate_fn(samples), False)['inputs'])
    return batches


def mean_gmacs(model: BaseModel, loader: DataLoader) -> float:
    """1e9 multiply-accumulates an image, mean over some."""
    images = input_batches(loader, model, 1, min(MAC_IMAGES, len(loader.dataset)))
    return sum(count_macs(model, network_call(model, image))[''] for image in images) / len(images) / 1e9


@torch.no_grad()
def peak_memory(model: BaseModel, loader: DataLoader, batch_size: int) -> dict[str, object]:
    """Memory of a forward pass, see the schema of results."""
    inputs, = input_batches(loader, model, batch_size, 1)
    call = network_call(model, inputs)
    call()  # makes constant masks, which stay
    kind = 'cuda_max_memory_allocated' if inputs.is_cuda else 'tensors'
    return dict(bytes=peak_bytes(call, inputs.device), batch_size=batch_size, kind=kind)


def bottleneck(model: BaseModel, loader: DataLoader, tick: Callable[[], None] | None = None) -> dict[str, dict]:
    """IB loss and bound of every layer over a data set, in two passes.

    Args:
        model (BaseModel): On its device.
        loader (DataLoader): Labelled images.
        tick (Callable, optional): Called for every batch.

    Returns:
        dict: ``layers``, but for mergers that keep no grid, and ``restored``, see the schema of results; or
        ``error``, one line, where the model's layers cannot be measured.
    """
    metrics = dict(layers=IBMetric(), restored=IBMetric(restored=True))
    if not all(merger.keeps_grid for merger in mergers_of(model).values()):
        del metrics['layers']  # merged tokens of different images mean different things
    for metric in metrics.values():
        metric.dataset_meta = loader.dataset.metainfo
    handle = model.register_forward_hook(lambda *_: tick() if tick else None)
    try:
        return dict(zip(metrics, measure_together(list(metrics.values()), model, loader)))
    except (UserError, ValueError, RuntimeError) as error:
        return dict(error=summary(error))
    finally:
        handle.remove()


#: From the name of each layer, below ``backbone.``, to its values by the names of ``IBMetric.evaluate``.
LayerValues = dict[str, dict[str, float]]


@torch.no_grad()
def measure_together(metrics: Sequence[IBMetric], model: BaseModel, loader: DataLoader) -> list[LayerValues]:
    """What each of several metrics says of a model, in two passes for all of them, outside mmengine's loops.

    They need ``num_classes``, or the data set's metainfo. The model is left in evaluation mode.
    """
    first, *others = metrics
    try:
        for metric in others:
            metric.begin(model, loader)
        first.first_pass(model, loader)  # which all of them watch
        for metric in others:
            metric.finish_first()
        for batch in loader:
            model.val_step(batch)
        found: list[LayerValues] = [{} for _ in metrics]
        for layers, metric in zip(found, metrics):
            for name, value in metric.evaluate().items():
                layer, _, key = name.removeprefix('ib/').rpartition('/')
                layers.setdefault(layer.removeprefix('backbone.'), {})[key] = value
        return found
    finally:
        for metric in metrics:
            metric.forget()
