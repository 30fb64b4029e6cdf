"""Models with token merging beside their vanilla twin: variants of one config, rows of results."""

import copy
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from torch import nn

from mmltm.apis.profiling import Shape, count_macs, network_call
from mmltm.errors import UserError
from mmltm.models.builder import build_from, vanilla_twin
from mmltm.models.mergers import Ratio, merger_config, merger_type

#: What can be measured of a model.
SCOPES = ('network', 'backbone')
VANILLA = 'vanilla'


class Variant(NamedTuple):
    """One line of a comparison: type of the merger or 'vanilla', share of tokens kept, and the model's config."""
    merger: str | None
    ratio: Ratio | None
    config: dict


def merger_of(cfg: Config) -> dict:
    """Config of a config's merger; a :class:`UserError` if its backbone merges no tokens."""
    backbone = cfg.model.backbone
    try:
        merger = merger_config(backbone.get('merger'), backbone.get('ratio'))
    except ValueError as error:
        raise UserError(f'config {cfg.filename}: {error}') from error
    if merger is None:
        raise UserError(f'config {cfg.filename}: the backbone {backbone.type} merges no tokens')
    return merger


def variants(cfg: Config, mergers: Mapping[str, dict] | None = None, ratio: float | None = None) -> list[Variant]:
    """The vanilla twin of a config, then the config with each of ``mergers``, configs by name; by default its own.

    ``ratio`` is the share of tokens that all keep, by default the config's; mergers that take none go without. It is an
    error if the config's backbone merges no tokens.
    """
    own = merger_of(cfg)
    kept: Ratio | None = own.get('ratio') if ratio is None else ratio
    lines = [Variant(VANILLA, None, vanilla_twin(cfg))]
    for name, merger in (mergers or {own['type']: own}).items():
        merger = dict(merger)
        if merger.get('ratio', kept) is not None and 'r' not in merger and 'ratio' in merger_type(merger).amounts:
            merger['ratio'] = kept
        model = copy.deepcopy(cfg.model)
        model.backbone.pop('ratio', None)
        model.backbone.merger = merger
        lines.append(Variant(name, merger.get('ratio'), model))
    return lines


def beside_vanilla(rows: Iterable[dict]) -> list[tuple[dict, dict | None]]:
    """Every row of results but the vanilla ones, with that of its vanilla twin, None where there is none."""
    def place(row: dict) -> tuple:
        return row['config'], row['scope'], *row['shape'], row.get('batch_size'), row.get('runtime')

    rows = list(rows)
    twins = {place(row): row for row in rows if row['merger'] == VANILLA}
    return [(row, twins.get(place(row))) for row in rows if row['merger'] != VANILLA]


def build_variant(cfg: Config, variant: Variant) -> BaseModel:
    """The model of a variant in evaluation mode, its weights the same in every call; errors as ``build_from``."""
    torch.manual_seed(0)
    return build_from(cfg, variant.config)


def parameters(module: nn.Module) -> float:
    """Number of parameters, in millions."""
    return sum(p.numel() for p in module.parameters()) / 1e6


def scope_macs(model: BaseModel, scope: str, shape: Shape) -> dict[str, float]:
    """Multiply-accumulates of each module of a network or of its backbone alone, for one image of that shape."""
    inputs = torch.zeros(1, 3, *shape, device=next(model.parameters()).device)
    if scope == 'backbone':
        return count_macs(model.backbone, lambda: model.backbone(inputs))
    return count_macs(model, network_call(model, inputs))
