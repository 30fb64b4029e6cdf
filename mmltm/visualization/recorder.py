"""Which tokens a model merges in a forward pass, learnt from the calls of its mergers."""

import inspect
import math
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmltm.errors import UserError
from mmltm.merging.grids import Grid
from mmltm.merging.sequences import Detour, SequenceMerger
from mmltm.models import TOKEN_MERGERS

from .composition import Composition
from .probing import probe_detour, probe_sequence


class RecordedMerge(NamedTuple):
    """What one block merged.

    Attributes:
        name (str): Of the merger, without ``backbone.``.
        composition (Composition): From the full grid of the stage to what the block leaves of it.
        likeness (Tensor): (B, P), cosine of each merged token and the mean of the image's tokens that enter the
            merger.

    Where an image has several sequences that merge without a grid (MobileViT), it is about the first of them.
    """
    name: str
    composition: Composition
    likeness: Tensor

    def representative(self, image: int = 0) -> int:
        """The token that stands for the image best: its feature is nearest, by angle, to the mean of all tokens.

        The paper does not define its "most representative" token; the mean of the image's tokens is what a classifier
        pools.
        """
        return int(self.likeness[image].argmax())


class MergeRecorder:
    """Context in which the merges of the last forward pass of a model are kept.

    Consecutive merges of a stage are composed: a merger continues the one before in the same list of mergers if it
    merges what that one left over.

    Args:
        model (nn.Module): With a ``backbone`` that has token mergers.

    Attributes:
        merges (list[RecordedMerge]): In the order of the blocks; without those that do not merge for now.
        input_size (tuple, optional): Height and width of the maps that entered the backbone.

    Raises:
        UserError: The model has no token merger.
    """

    def __init__(self, model: nn.Module) -> None:
        self.backbone = getattr(model, 'backbone', model)
        self.merges: list[RecordedMerge] = []
        self.input_size: tuple[int, int] | None = None
        self._batch = 0
        self._handles: list = []
        self._mergers = _find_mergers(self.backbone)
        if not self._mergers:
            raise UserError(f'the backbone {type(self.backbone).__name__} merges no tokens: its config needs a ratio '
                            'below 1, or a merger')

    def __enter__(self) -> 'MergeRecorder':
        self.start()
        return self

    def __exit__(self, *exception) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to watch the model."""
        self._handles = [self.backbone.register_forward_pre_hook(self._begin)]
        self._handles += [module.register_forward_hook(partial(self._record, name), with_kwargs=True)
                          for name, module in self._mergers]

    def stop(self) -> None:
        """Leave the model as it was."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _begin(self, module: nn.Module, args: tuple) -> None:
        self.merges, self._batch, self.input_size = [], len(args[0]), tuple(args[0].shape[-2:])

    @torch.no_grad()
    def _record(self, name: str, module: nn.Module, args: tuple, kwargs: dict, output: tuple[Any, Any]) -> None:
        before = self.merges[-1] if self.merges else None
        before = before.composition if before is not None and _owner(before.name) == _owner(name) else None
        x = args[0]
        if isinstance(module, SequenceMerger):
            call = inspect.signature(module.forward).bind(*args, **kwargs)
            call.apply_defaults()
            count = x.shape[1] - call.arguments['class_token']
            grid = _grid_of(count, self.input_size) if before is None else before.merged_grid
            operator = probe_sequence(module, call.arguments, grid, len(x) // self._batch)
            tokens, merged = x[::operator.groups, -count:].mT, operator.merged.mT
        else:
            operator = probe_detour(output[0], x) if isinstance(module, Detour) else output[0]
            if operator is None:
                return
            tokens, merged = (maps.flatten(1, -3).flatten(2) for maps in (x, operator.merge(x)))
        likeness = F.cosine_similarity(merged.float(), tokens.float().mean(2, keepdim=True), dim=1).cpu()
        if before is not None and before.merged_grid == tuple(operator.grid):
            composition = before.then(operator)
        else:
            composition = Composition([operator], self._batch, x.device)
        self.merges.append(RecordedMerge(name, composition, likeness))


def _find_mergers(backbone: nn.Module) -> list[tuple[str, nn.Module]]:
    """Names and modules of all mergers; of those behind a detour the detour."""
    kinds = (*TOKEN_MERGERS.module_dict.values(), Detour)
    found: list[tuple[str, nn.Module]] = []
    for name, module in backbone.named_modules():
        if isinstance(module, kinds) and not (found and name.startswith(f'{found[-1][0]}.')):
            found.append((name, module))
    return found


def _owner(name: str) -> str:
    return name.rpartition('.')[0]


def _grid_of(count: int, size: tuple[int, int]) -> Grid:
    """The grid of ``count`` cells whose sides are nearest in proportion to those of an image."""
    grids = [(height, count // height) for height in range(1, count + 1) if count % height == 0]
    return min(grids, key=lambda grid: abs(math.log(grid[0] * size[1] / (grid[1] * size[0]))))
