"""A cell: one model with one merger, off the shelf or after some epochs of training."""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mmengine.config import Config

from mmltm.errors import UserError
from mmltm.merging.soft import WINDOWS
from mmltm.models import TOKEN_MERGERS
from mmltm.models.mergers import has_block_ratios, merger_type

VANILLA = 'vanilla'


@dataclass(frozen=True)
class Cell:
    """What to train and to test.

    Args:
        config (str): Path of a config of mmltm, whose backbone takes ``merger``. What it trains is up to its
            ``MaskTuningHook``: with it the parameters of mergers, without it all.
        label (str): The method's name in tables.
        merger (dict, optional): Config of the merger, its ratio included. None is the vanilla model.
        ratio (float, optional): Share of tokens that a block keeps, as tables shall say. None for the vanilla model.
        epochs (int): Of training. Defaults to 0.
        seed (int): Of whatever is random. Defaults to 0.
        checkpoint (str, optional): Path of the weights to start from. Defaults to None, a start from scratch.
        overrides (dict): Values of the config by dotted key, ``{'model.backbone.merger.eta': 0}``; those of the
            merger come on top of ``merger``.
        hooks (list): Configs of custom hooks beyond those of the config.
    """
    config: str
    label: str = VANILLA
    merger: dict | None = None
    ratio: float | None = None
    epochs: int = 0
    seed: int = 0
    checkpoint: str | None = None
    overrides: dict = field(default_factory=dict)
    hooks: list = field(default_factory=list)

    @property
    def config_name(self) -> str:
        return Path(self.config).stem

    @property
    def key(self) -> str:
        """Readable name, which is another one for every cell of an experiment."""
        parts = [self.config_name, re.sub(r'[^\w.=+]+', '-', self.label).strip('-').lower()]
        parts += [] if self.ratio is None else [f'r{self.ratio:g}']
        parts += [f'e{self.epochs}', f's{self.seed}']
        if self.overrides or self.hooks:
            parts.append('o' + short_hash([self.overrides, self.hooks])[:6])
        return '-'.join(parts)


def short_hash(value: object) -> str:
    """12 hexadecimal digits that stand for bytes, or for a value of dicts, lists, numbers and strings."""
    content = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True, default=str).encode()
    return hashlib.sha256(content).hexdigest()[:12]


def grid(cfg: Config,
         config: str,
         checkpoint: str | None,
         mergers: Sequence[str],
         ratios: Sequence[float],
         epochs: Sequence[int] = (0, ),
         seeds: Sequence[int] = (0, ),
         overrides: dict | None = None) -> list[Cell]:
    """Cells of all mergers at all ratios after all numbers of epochs, the vanilla model first.

    SoftMerging takes no ratio: it stands there once for each number of tokens that may become one. Off the shelf
    there is one cell, of seed 0, where nothing is random.

    Args:
        cfg (Config): The config, read; a merger of its own type keeps the settings of the config's merger, others
            its window and rounding.
        config (str): Its path.
        checkpoint (str, optional): See :class:`Cell`.
        mergers (Sequence[str]): Types.
        ratios (Sequence[float]): In (0, 1].
        epochs (Sequence[int]): Numbers of epochs.
        seeds (Sequence[int]): Seeds.
        overrides (dict, optional): Of all cells, already in ``cfg``; those of the merger concern mergers of its type.

    Raises:
        UserError: An unknown merger, a ratio outside (0, 1], or a negative number of epochs.
    """
    unknown = [name for name in mergers if name not in TOKEN_MERGERS.module_dict]
    if unknown:
        raise UserError(f'unknown merger {unknown[0]}: choose from {", ".join(TOKEN_MERGERS.module_dict)}')
    if not all(0 < ratio <= 1 for ratio in ratios):
        raise UserError(f'ratios must lie in (0, 1], got {" ".join(map(str, ratios))}')
    if min(epochs) < 0:
        raise UserError(f'numbers of epochs must not be negative, got {" ".join(map(str, epochs))}')
    base = cfg.model.backbone.get('merger') or {}
    overrides = {key: value for key, value in (overrides or {}).items()
                 if not key.startswith('model.backbone.merger.')}
    methods = [(VANILLA, None, None)]
    for name in dict.fromkeys(mergers):
        methods += [(name, merger, ratio) for merger, ratio in _mergers_of(name, dict(base), ratios)]
    cells = [
        Cell(config, label, merger, ratio, count, seed, checkpoint, overrides)
        for label, merger, ratio in methods for count in dict.fromkeys(epochs) for seed in dict.fromkeys(seeds)
    ]
    return unique(cell if cell.epochs else off_the_shelf(cell) for cell in cells)


def off_the_shelf(cell: Cell) -> Cell:
    """The cell before training; of seed 0 where nothing is random then."""
    random = cell.merger is not None and merger_type(cell.merger).random_init
    return replace(cell, epochs=0, seed=cell.seed if random else 0)


def unique(cells: Iterable[Cell]) -> list[Cell]:
    """The cells in their order, each once."""
    cells = list(cells)
    return [cell for place, cell in enumerate(cells) if cell not in cells[:place]]


def _mergers_of(name: str, base: dict, ratios: Sequence[float]) -> list:
    """Configs of one type of merger, each with its ratio."""
    if 'p' in merger_type(dict(type=name)).amounts:
        return [(dict(type=name, p=p), 1 / p) for p in WINDOWS]
    settings = base if base.get('type') == name else dict(type=name)
    if has_block_ratios(dict(type=name, ratio=1.)):
        settings = {**{key: base[key] for key in ('window', 'rounding') if key in base}, **settings}
    return [({**settings, 'ratio': ratio}, ratio) for ratio in dict.fromkeys(ratios)]
