"""Merging by masks that depend on nothing: local averaging, the floor of what a learnt mask has to beat.

The merged grids, the way back and the cost are those of LTM at the same ratio; the mask alone differs.
"""

from typing import Optional

import torch.nn as nn
from torch import Tensor

from .grids import Grid, local_overlap
from .operators import INVERSES, WindowedMerge
from .precision import autocast_off


class FixedMask(nn.Module):
    """Merges the tokens of one block by a mask that is given, window by window.

    Args:
        source (tuple): Base window (h, w) before merging, N = h w.
        target (tuple): Base window (h', w') after merging, P = h' w'.
        embed_dims (int): Channels of a token, which the mask does not depend on.
        first (bool): First merging block of the network, which makes no difference here. Defaults to False.
        inverse (str): Way back to all tokens: 'lstsq' or 'rownorm'. Defaults to 'lstsq'.
    """

    def __init__(self, source: Grid, target: Grid, embed_dims: int, first: bool = False,
                 inverse: str = 'lstsq') -> None:
        super().__init__()
        if inverse not in INVERSES:
            raise ValueError(f'inverse must be one of {tuple(INVERSES)}, got {inverse!r}')
        self.source, self.target = tuple(source), tuple(target)
        self._inverse = INVERSES[inverse]
        self._operators: dict[tuple, WindowedMerge] = {}

    def mask(self, source: Grid, target: Grid) -> Tensor:
        """G of a tile, (N, P), every column of which sums to 1."""
        raise NotImplementedError

    def forward(self, x: Tensor, carry: Optional[None] = None) -> tuple[WindowedMerge, None]:
        """The merging of maps like ``x``, (B, ..., C, H, W); nothing is handed on to the next block."""
        key = (*x.shape[-2:], x.device)
        if key not in self._operators:

            def matrices(source: Grid, target: Grid) -> tuple[Tensor, Tensor]:
                mask = self.mask(source, target).float().to(x.device)
                return mask, self._inverse(mask)

            with autocast_off(x):
                self._operators[key] = WindowedMerge(x.shape[-2:], self.source, self.target, matrices).collapse()
        return self._operators[key], None

    def _load_from_state_dict(self, *args, **kwargs) -> None:
        self._operators.clear()
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict:
        return {**self.__dict__, '_operators': {}}

    def extra_repr(self) -> str:
        return f'source={self.source}, target={self.target}'


class AvgPool(FixedMask):
    """Every merged token is the mean of the area of the map that it takes the place of.

    It is LTM's mask before that has learnt anything.
    """

    def mask(self, source: Grid, target: Grid) -> Tensor:
        overlap = local_overlap(source, target)
        return overlap / overlap.sum(0)
