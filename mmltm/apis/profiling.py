"""What a forward pass costs, without any data set: multiply-accumulates, time, memory."""

import copy
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

Shape = tuple[int, int]

#: Counted rounds below which a limit of time does not go: quartiles of fewer say nothing.
FEWEST_ROUNDS = 3


def network_call(model: nn.Module, inputs: Tensor, predict: bool = False) -> Callable[[], object]:
    """A forward pass of a classifier, detector or segmentor on a normalised batch, (B, 3, H, W).

    With ``predict`` post-processing takes part, as at test time.
    """
    shape = tuple(inputs.shape[-2:])
    meta = dict(img_shape=shape, ori_shape=shape, pad_shape=shape, batch_input_shape=shape, scale_factor=(1.0, 1.0))
    if type(model).__module__.startswith('mmpretrain'):
        from mmpretrain.structures import DataSample as Sample
    else:
        from mmdet.structures import DetDataSample as Sample
    samples = [Sample(metainfo=meta) for _ in inputs]
    return lambda: model(inputs, copy.deepcopy(samples), mode='predict' if predict else 'tensor')


def count_macs(model: nn.Module, call: Callable[[], object]) -> dict[str, float]:
    """Multiply-accumulates during ``call`` by the dotted name of each module, '' for all of ``model``.

    Convolutions and matrix products count, those of attention included; element-wise work, normalisation and pooling do
    not, as in the papers' tables.
    """
    with torch.no_grad():
        call()  # makes constant masks, whose making is not part of a forward pass
    # Fused attention kernels hide their products from the counter on some devices; the plain form shows them.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    root = type(model).__name__
    counts = {'': counter.get_total_flops() / 2}
    for name, operators in counter.get_flop_counts().items():
        if name.startswith(root + '.'):
            counts[name[len(root) + 1:]] = sum(operators.values()) / 2
    # A module that is never called itself (a list, a head by its own methods) holds its children's.
    for name, module in reversed(list(model.named_modules(remove_duplicate=False))):
        children = (counts[f'{name}.{key}' if name else key] for key, _ in module.named_children())
        counts.setdefault(name, sum(children))
    return counts


class Timing(NamedTuple):
    """Seconds of one candidate over the rounds of an interleaved run."""
    seconds: list[float]

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    @property
    def quartiles(self) -> tuple[float, float]:
        first, third = np.quantile(self.seconds, (0.25, 0.75)).tolist()
        return first, third

    def ratio_to(self, other: 'Timing') -> 'Timing':
        """Quotients round by round, which a drift of the machine's speed leaves alone."""
        return Timing([mine / theirs for mine, theirs in zip(self.seconds, other.seconds)])


def time_interleaved(calls: Sequence[Callable[[], object]], rounds: int, warmup: int, device: torch.device,
                     progress: Callable[[], None] = lambda: None, max_seconds: float = math.inf,
                     clock: Callable[[], float] = time.perf_counter) -> list[Timing]:
    """Time several calls in turn, each once a round, in an order that reverses from round to round.

    Rounds are counted after ``warmup`` more, and ``progress`` is called after each. On CUDA events measure the device's
    own time, elsewhere ``clock`` does. After ``max_seconds`` no round begins, but :data:`FEWEST_ROUNDS` are counted all
    the same.
    """
    seconds: list[list[float]] = [[] for _ in calls]
    order = list(range(len(calls)))
    end = time.perf_counter() + max_seconds
    with torch.inference_mode():
        for index in range(warmup + rounds):
            if index >= warmup + FEWEST_ROUNDS and time.perf_counter() > end:
                break
            for candidate in order if index % 2 else reversed(order):
                elapsed = _time_once(calls[candidate], device, clock)
                if index >= warmup:
                    seconds[candidate].append(elapsed)
            progress()
    return [Timing(values) for values in seconds]


def _time_once(call: Callable[[], object], device: torch.device, clock: Callable[[], float]) -> float:
    if device.type == 'cuda':
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3
    begin = clock()
    call()
    return clock() - begin


def peak_bytes(call: Callable[[], object], device: torch.device) -> int:
    """By how many bytes the tensors of a call, at most, exceed those before it, not what allocators keep."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault('KINETO_LOG_LEVEL', '6')  # else the profiler writes its stages to stderr
    # It may warn of a block of unknown size: a few numbers that a hook has kept from the step before.
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / 'trace.json'
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())['traceEvents']
    return max(event['args']['Total Allocated'] for event in events if event['name'] == '[memory]')
