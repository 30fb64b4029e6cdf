"""Mergers of sequences as operators on maps: which token went where, found by what happens to it.

Mergers that keep no grid return tokens, not an operator, and may look at the tokens to decide. A probe therefore
travels as further channels of the actual tokens, scaled down until no decision and no norm feels it: whatever the
merger does, it does to these channels as well.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmltm.merging.detour import SequenceDetour
from mmltm.merging.grids import Grid, map_to_tokens, tokens_to_map
from mmltm.merging.sequences import SequenceMerger

#: A power of two, by which scaling is exact; its square is nothing beside the norm of a token in float32.
SCALE = 2.0**-40


class ProbedMerge:
    """What ``reduce``, from N patch tokens of a sequence to P merged ones, did to ``tokens``, as a linear operator.

    The tokens, (B A, N, C), are A sequences (``groups``) of every image, the first of which is looked at; ``merged``,
    (B, P, C), is what was left of these. N tokens lie on ``grid``, P on ``merged_grid``, by default a row.
    """

    def __init__(self, reduce: Callable[[Tensor], Tensor], tokens: Tensor, grid: Grid,
                 merged_grid: Grid | None = None, groups: int = 1) -> None:
        self._reduce, self._tokens, self.groups = reduce, tokens.detach().float(), groups
        with torch.no_grad():
            self.merged = reduce(self._tokens)[::groups]
        self.grid, self.merged_grid = grid, merged_grid or (1, self.merged.shape[1])

    def merge(self, x: Tensor) -> Tensor:
        """G^T x: (B, C, H, W) to (B, C, H', W')."""
        probes = map_to_tokens(x).repeat_interleave(self.groups, 0)
        probed = torch.cat((self._tokens, SCALE * probes), dim=2)
        return tokens_to_map(self._reduce(probed)[::self.groups, :, self._tokens.shape[2]:] / SCALE, self.merged_grid)


def probe_sequence(merger: SequenceMerger, call: dict[str, Any], grid: Grid, groups: int = 1) -> ProbedMerge:
    """What a merger did in one call with these arguments by name, to ``groups`` sequences of an image on ``grid``."""
    extra, patches = call['tokens'].float().tensor_split([int(call['class_token'])], dim=1)
    # No one asks for the way back, and tokens that have left lack the channels of the probe.
    call = {**call, 'history': call['history']._replace(source=None, left=None)}

    def reduce(x: Tensor) -> Tensor:
        # The class token takes no part; what channels it has beyond its own does not matter.
        first = F.pad(extra, (0, x.shape[2] - extra.shape[2]))
        # Not a call of the module, which would be recorded again.
        reduced, _ = merger.forward(**{**call, 'tokens': torch.cat((first, x), 1)})
        return reduced[:, extra.shape[1]:]

    return ProbedMerge(reduce, patches, grid, groups=groups)


def probe_detour(detour: SequenceDetour, x: Tensor) -> ProbedMerge:
    """What a detour does to a map, (B, ..., C, H, W); the copies that come back stand for its hidden merged tokens."""
    tokens = map_to_tokens(x.flatten(1, -3))
    return ProbedMerge(lambda tokens: detour.detour(tokens, lambda merged: merged), tokens, detour.grid, detour.grid)
