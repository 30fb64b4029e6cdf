"""Models with token merging beside their vanilla twin, measured together: variants of one config, rows of results."""

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from mmengine.config import Config, DictAction
from torch import Tensor, nn

from mmltm.apis.crop import Crop
from mmltm.apis.profiling import Shape, count_macs, network_call, time_interleaved
from mmltm.errors import UserError
from mmltm.models.builder import build_from, vanilla_twin
from mmltm.models.mergers import merger_config, merger_type

#: What can be measured of a model.
SCOPES = ('network', 'backbone')
VANILLA = 'vanilla'


class Variant(NamedTuple):
    """One line of a comparison.

    Attributes:
        merger (str): Type of the merger, or 'vanilla'.
        ratio (float or list[float], optional): Share of tokens that blocks keep; None where there is none.
        config (dict): Of the model.
    """
    merger: str
    ratio: float | Sequence[float] | None
    config: dict


def merger_of(cfg: Config) -> dict:
    """Config of a config's merger.

    Raises:
        UserError: Its backbone merges no tokens.
    """
    backbone = cfg.model.backbone
    try:
        merger = merger_config(backbone.get('merger'), backbone.get('ratio'))
    except ValueError as error:
        raise UserError(f'config {cfg.filename}: {error}') from error
    if merger is None:
        raise UserError(f'config {cfg.filename}: the backbone {backbone.type} merges no tokens')
    return merger


def variants(cfg: Config, mergers: Sequence[str] = (), ratio: float | None = None) -> list[Variant]:
    """The vanilla twin of a config, then the config with each merger.

    Args:
        cfg (Config): With a merger.
        mergers (Sequence[str]): Types, with settings where one of them shall differ, as 'LTM:mode=static,eta=0'; the
            config's own type keeps what the config says of it beside the ratio. 'Crop' is the physical limit, see
            :class:`~mmltm.apis.crop.Crop`. Defaults to the config's own alone.
        ratio (float, optional): Share of tokens that all keep. Defaults to the config's; mergers that take none go
            without.

    Raises:
        UserError: The config's backbone merges no tokens, or there is no such merger.
    """
    own = merger_of(cfg)
    ratio = own.get('ratio') if ratio is None else ratio
    lines = [Variant(VANILLA, None, vanilla_twin(cfg))]
    for name in mergers or (own['type'], ):
        merger = _merger_of_name(name, own)
        if merger.get('ratio', ratio) is not None and 'r' not in merger and 'ratio' in merger_type(merger).amounts:
            merger['ratio'] = ratio
        model = copy.deepcopy(cfg.model)
        model.backbone.pop('ratio', None)
        model.backbone.merger = merger
        lines.append(Variant(name, merger.get('ratio'), model))
    return lines


def _merger_of_name(name: str, own: dict) -> dict:
    """Config of a merger named on the command line."""
    kind, _, settings = name.partition(':')
    merger = dict(own) if kind == own['type'] else dict(type=Crop if kind == Crop.__name__ else kind)
    for setting in filter(None, settings.split(',')):
        key, equals, value = setting.partition('=')
        if not equals:
            raise UserError(f'merger {name}: expected TYPE:KEY=VALUE,...')
        merger[key] = DictAction._parse_int_float_bool(value)
    try:
        merger_type(merger)
    except ValueError as error:
        raise UserError(str(error)) from error
    return merger


def beside_vanilla(rows: Iterable[dict]) -> list[tuple[dict, dict | None]]:
    """Every row of results but the vanilla ones, with that of its vanilla twin, None where there is none."""
    def place(row):
        return [row['config'], row['scope'], row['shape'], row.get('batch_size')]

    rows = list(rows)
    twins = [row for row in rows if row['merger'] == VANILLA]
    return [(row, next((twin for twin in twins if place(twin) == place(row)), None))
            for row in rows if row['merger'] != VANILLA]


def build_variant(cfg: Config, variant: Variant) -> nn.Module:
    """The model of a variant in evaluation mode, its weights the same in every call.

    Raises:
        UserError: The arguments of its backbone do not fit, or the backbone cannot use the merger.
    """
    torch.manual_seed(0)
    return build_from(cfg, variant.config)


def parameters(module: nn.Module) -> float:
    """Number of parameters, in millions."""
    return sum(p.numel() for p in module.parameters()) / 1e6


def scope_macs(model: nn.Module, scope: str, shape: Shape) -> dict[str, float]:
    """Multiply-accumulates of each module of a network or of its backbone alone, for one image.

    Args:
        model (nn.Module): The whole network.
        scope (str): One of :data:`SCOPES`.
        shape (tuple): Height and width.
    """
    inputs = torch.zeros(1, 3, *shape, device=next(model.parameters()).device)
    if scope == 'backbone':
        return count_macs(model.backbone, lambda: model.backbone(inputs))
    return count_macs(model, network_call(model, inputs))


def forward(model: nn.Module, scope: str, inputs: Tensor, amp: bool = False, compiled: bool = False) -> Callable:
    """A call without arguments for one measurement; that of a network comes with post-processing."""
    if scope == 'backbone':
        def call():
            return model.backbone(inputs)
    else:
        call = network_call(model, inputs, predict=True)
    if compiled:
        call = torch.compile(call)
    if not amp:
        return call

    def autocast():
        with torch.autocast(inputs.device.type):
            return call()
    return autocast


class Comparison:
    """Variants of one config, held in memory together and measured in the same rounds.

    Of several mergers, one that the backbone cannot use becomes a row that says why.

    Args:
        cfg (Config): The config, for building.
        lines (Sequence[Variant]): The vanilla twin first.
        device (torch.device): Where they run.

    Raises:
        UserError: The vanilla twin or the only merger cannot be built.
    """

    def __init__(self, cfg: Config, lines: Sequence[Variant], device: torch.device):
        self.variants = lines
        self.device = device
        self.models: dict[str, nn.Module] = {}
        self.reasons: dict[str, str] = {}
        self._macs: dict[tuple, float] = {}
        for line in lines:
            try:
                self.models[line.merger] = build_variant(cfg, line).to(device)
            except UserError as error:
                if line.merger == VANILLA or len(lines) == 2:
                    raise
                self.reasons[line.merger] = str(error.__cause__)

    def measure(self, scope: str, shape: Shape, batch: int, rounds: int, warmup: int,
                progress: Callable[[], None] = lambda: None, max_seconds: float = math.inf, amp: bool = False,
                compiled: bool = False) -> list[dict]:
        """Rows of results, one a variant.

        Args:
            scope (str): One of :data:`SCOPES`.
            shape (tuple): Height and width of the images, which are noise.
            batch (int): Number of images.
            rounds (int): As in :func:`~mmltm.apis.profiling.time_interleaved`, and so ``warmup``, ``progress`` and
                ``max_seconds``.
            amp (bool): Under autocast.
            compiled (bool): By torch.compile.

        Returns:
            list[dict]: ``merger`` and ``ratio`` of the variant; ``reason`` where it could not be built; else
            ``gmacs`` of an image, ``parameters_m`` in millions, ``rounds`` counted, ``latency_ms`` (median),
            ``images_per_second``, ``macs_ratio`` and ``latency_ratio`` to vanilla, and ``first_ratio``, the first
            merger's latency over this one's (None for vanilla, and where the first merger could not be built). Of
            latencies there are ``..._quartiles``, too; ratios are medians and quartiles of the rounds' own ratios.
        """
        inputs = torch.randn(batch, 3, *shape, device=self.device)
        calls = [forward(model, scope, inputs, amp, compiled) for model in self.models.values()]
        timings = dict(zip(self.models, time_interleaved(calls, rounds, warmup, self.device, progress, max_seconds)))
        first = timings.get(self.variants[1].merger)
        rows = []
        for line in self.variants:
            row = dict(merger=line.merger, ratio=line.ratio, scope=scope, shape=list(shape), batch_size=batch)
            rows.append(row)
            if line.merger in self.reasons:
                row.update(reason=self.reasons[line.merger])
                continue
            timing = timings[line.merger]
            model = self.models[line.merger]
            ratio = timing.ratio_to(timings[VANILLA])
            gmacs = self._gmacs(line.merger, scope, shape)
            row.update(
                gmacs=gmacs, parameters_m=parameters(model.backbone if scope == 'backbone' else model),
                rounds=len(timing.seconds), latency_ms=1e3 * timing.median,
                latency_ms_quartiles=[1e3 * q for q in timing.quartiles], images_per_second=batch / timing.median,
                macs_ratio=gmacs / self._gmacs(VANILLA, scope, shape), latency_ratio=ratio.median,
                latency_ratio_quartiles=list(ratio.quartiles), first_ratio=None, first_ratio_quartiles=None)
            if first is not None and line.merger != VANILLA:
                mine = first.ratio_to(timing)
                row.update(first_ratio=mine.median, first_ratio_quartiles=list(mine.quartiles))
        return rows

    def _gmacs(self, name: str, scope: str, shape: Shape) -> float:
        key = (name, scope, tuple(shape))
        if key not in self._macs:  # the same for every batch size
            self._macs[key] = scope_macs(self.models[name], scope, shape)[''] / 1e9
        return self._macs[key]
