"""Which tokens a model merges in a forward pass, learnt from the calls of its mergers."""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmltm.errors import UserError
from mmltm.merging.grids import Grid
from mmltm.merging.sequences import SequenceMerger
from mmltm.merging.trace import MergeCall, MergeTrace, mergers_of

from .composition import Composition
from .probing import probe_detour, probe_sequence


class RecordedMerge(NamedTuple):
    """What one block merged; of several sequences of an image without a grid (MobileViT), about the first of them."""
    name: str  # of the merger, without 'backbone.'
    composition: Composition  # from the full grid of the stage to what the block leaves of it
    similarity: Tensor  # (B, P), cosine of each merged token and the mean of the image's tokens that enter the merger

    def representative(self, image: int = 0) -> int:
        """The token whose feature is nearest, by angle, to the mean of the image's tokens, which a classifier pools.

        The paper does not define its "most representative" token.
        """
        return int(self.similarity[image].argmax())


class MergeRecorder:
    """Context in which the merges of the last forward pass of a model are kept.

    Consecutive merges of a stage are composed, see :class:`~mmltm.merging.trace.MergeTrace`. A model without token
    mergers in its ``backbone`` is an error.

    Attributes:
        merges (list[RecordedMerge]): In the order of the blocks; without those that do not merge for now.
        input_size (tuple): Height and width of the maps that entered the backbone.
    """

    def __init__(self, model: nn.Module) -> None:
        self.backbone = getattr(model, 'backbone', model)
        self.merges: list[RecordedMerge] = []
        self.input_size: Grid = (0, 0)
        self._batch = 0
        self._trace = MergeTrace(self.backbone, self._record)
        self._handle: Any = None
        #: Merges so far without a grid, by the list of mergers.
        self._sequences: dict[str, Composition] = {}
        if not mergers_of(self.backbone):
            raise UserError(f'the backbone {type(self.backbone).__name__} merges no tokens: its config needs a ratio '
                            'below 1, or a merger')

    def __enter__(self) -> 'MergeRecorder':
        self.start()
        return self

    def __exit__(self, *exception) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to watch the model."""
        self._handle = self.backbone.register_forward_pre_hook(self._begin)
        self._trace.start()

    def stop(self) -> None:
        """Leave the model as it was."""
        self._trace.stop()
        self._handle.remove()

    def _begin(self, module: nn.Module, args: tuple) -> None:
        self.merges, self._sequences = [], {}
        self._batch, self.input_size = len(args[0]), tuple(args[0].shape[-2:])

    @torch.no_grad()
    def _record(self, call: MergeCall) -> None:
        if isinstance(call.merger, SequenceMerger):
            x, before = call.arguments['tokens'], self._sequences.get(call.owner)
            count = x.shape[1] - call.arguments['class_token']
            if before is None:  # the grid of so many cells whose sides are nearest in proportion to the image's
                height, width = self.input_size
                grid: Grid = min(((h, count // h) for h in range(1, count + 1) if count % h == 0),
                                 key=lambda grid: abs(math.log(grid[0] * width / (grid[1] * height))))
            else:
                grid = before.merged_grid
            operator = probe_sequence(call.merger, call.arguments, grid, len(x) // self._batch)
            tokens, merged = x[::operator.groups, -count:].mT, operator.merged.mT
            composition = Composition([operator], self._batch, x.device) if before is None else before.then(operator)
            self._sequences[call.owner] = composition
        else:
            x, operator = call.arguments['x'], call.output[0]
            if operator is None:
                return
            operator = operator if call.merger.keeps_grid else probe_detour(operator, x)
            tokens, merged = (maps.flatten(1, -3).flatten(2) for maps in (x, operator.merge(x)))
            composition = Composition([*call.before, operator], self._batch, x.device)
        similarity = F.cosine_similarity(merged.float(), tokens.float().mean(2, keepdim=True), dim=1).cpu()
        self.merges.append(RecordedMerge(call.name, composition, similarity))
