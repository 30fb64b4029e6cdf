"""Token reduction that keeps no grid: which token went where, and what such mergers share.

A sequence is (B, N, C), its class token, if it has one, at index 0. Mergers of sequences come between the attention
of a block and its MLP, look at that attention, and say how the attention of the blocks behind them is to weigh the
tokens left.
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from .base import Host, Merger, Plan, _window_pairs, merged_size
from .grids import Grid, as_number


class Attention(NamedTuple):
    """Queries and keys of tokens, (B, heads, N, d), and scores, (B, heads, N, N), where the merger wants them."""
    queries: Tensor
    keys: Tensor
    scores: Tensor | None = None


class History(NamedTuple):
    """What has become of the tokens of a sequence.

    Attributes:
        source (Tensor, optional): (B, N0), where each of the tokens at first is now, anywhere if it has left; None if
            no one will ask for the way back.
        sizes (Tensor): (B, N), how many tokens each token stands for.
        total (int): N0, tokens at first.
        weights (Tensor, optional): (B, N), by which attention multiplies the exponentials; None: all 1.
        left (Tensor, optional): (B, N0, C), what tokens were when some left last; None while none has left.
        present (Tensor, optional): (B, N0), 1 for tokens that have not left, else 0; None while none has left.
    """
    source: Tensor | None
    sizes: Tensor
    total: int
    weights: Tensor | None = None
    left: Tensor | None = None
    present: Tensor | None = None

    @classmethod
    def whole(cls, tokens: Tensor, track: bool = True) -> 'History':
        """Of tokens, (B, N, C), to which nothing has happened yet; ``track`` if the way back will be asked for."""
        batch, count = tokens.shape[0], as_number(tokens.shape[1])
        history = cls(None, torch.ones(batch, count, device=tokens.device), count)
        return history.tracked() if track else history

    def tracked(self) -> 'History':
        """The same with a way back, if there is none and nothing has happened to the tokens yet."""
        if self.source is not None:
            return self
        return self._replace(source=torch.arange(self.total, device=self.sizes.device).expand_as(self.sizes))

    def moved(self, indices: Callable[[], Tensor], sizes: Tensor, weights: Tensor | None) -> 'History':
        """After tokens have gone to new places, (B, N), asked for if the way back counts; the rest is (B, N')."""
        source = None if self.source is None else indices().gather(1, self.source)
        return self._replace(source=source, sizes=sizes, weights=weights)

    def dropped(self, tokens: Tensor, stays: Tensor) -> 'History':
        """After some of the tokens, (B, N, C), have left, or been masked; the way back has them as they were.

        ``stays``, (B, N), is 1 for tokens that stay, else 0. If it has a gradient, the way back gives it one.
        """
        if self.source is None:
            return self
        present = stays.gather(1, self.source)
        return self._replace(left=self.restore(tokens),
                             present=present if self.present is None else self.present * present)

    def restore(self, tokens: Tensor) -> Tensor:
        """The way back, (B, N, C) to (B, N0, C): every token is a copy of the one that it went into."""
        assert self.source is not None  # else nobody was to ask for the way back
        full = take(tokens, self.source)
        if self.left is None or self.present is None:
            return full
        # Exact at both ends, and differentiable by the weight.
        return torch.lerp(self.left.to(full), full, self.present[..., None].to(full))

    def mean(self, tokens: Tensor, skip: int = 0) -> Tensor:
        """Mean over the tokens that were there at first, (B, N, C) to (B, C): each counts as many as it stands for.

        Tokens that have left count nothing, as in attention, nor do ``skip`` class tokens at the beginning.
        """
        counts = self.sizes
        if self.weights is not None:  # 0 for tokens that have left, with the gradient of what made it 0
            counts = counts * (self.weights / self.weights.detach().clamp(min=1))
        counts = counts[:, skip:, None].to(tokens)
        return (tokens[:, skip:] * counts).sum(1) / counts.sum(1)


def take(tokens: Tensor, indices: Tensor) -> Tensor:
    """Tokens at the indices, (B, K), of each of the sequences, (B, N, C)."""
    return tokens.gather(1, indices[..., None].expand(-1, -1, tokens.shape[-1]))


class SequenceMerger(Merger):
    """Reduces the tokens of one block without a grid.

    How many tokens a block keeps is as many as LTM would keep, for maps of any size, or follows from ``r``.

    Args:
        source, target (tuple, optional): Base window before and after merging. Default to None.
        r (int, optional): In place of windows: how many tokens the block takes away. Defaults to None.
        index, depth (int): Place of the block among those that may merge, and their number. Default to 0 and 1.

    Attributes:
        explicit (bool): Whether :class:`Attention` must come with scores.
        by_tokens (bool): Whether tokens alone, without attention, are enough.
        needs_class_token (bool): Whether there must be a class token.
        least_share (float): The smallest share of its tokens that a block can be asked to leave.
    """
    amounts: ClassVar[tuple[str, ...]] = ('ratio', 'r')
    keeps_grid = False
    explicit: ClassVar[bool] = False
    by_tokens: ClassVar[bool] = False
    needs_class_token: ClassVar[bool] = False
    least_share: ClassVar[float] = 0.

    def __init__(self, source: Grid | None = None, target: Grid | None = None, r: int | None = None,
                 index: int = 0, depth: int = 1) -> None:
        super().__init__()
        self.source, self.target, self.r = source or (), target or (), r
        self.index, self.depth = index, depth

    def remaining(self, count: int, grid: Grid) -> tuple[int, Grid]:
        """How many of ``count`` patch tokens to keep, and the grid that as many would have.

        ``grid`` is the one that they came from, or that the call for the block before returned.
        """
        if self.r is not None:
            return max(count - self.r, 1), grid
        grid = merged_size(grid, self.source, self.target)
        return math.prod(grid), grid

    def forward(self, tokens: Tensor, attention: Attention | None, history: History, keep: int,
                class_token: bool) -> tuple[Tensor, History]:
        """Fewer tokens, (B, N', C), and what has become of them.

        Args:
            tokens (Tensor): (B, N, C), after the block's attention.
            attention (Attention, optional): The block's; None where there is none over these tokens.
            history (History): What has become of the tokens so far.
            keep (int): How many patch tokens shall be left.
            class_token (bool): Whether the first token is a class token, which stays what and where it is.
        """
        raise NotImplementedError

    @classmethod
    def refusal(cls, host: Host) -> str | None:
        if host.sequences == 'none':
            return 'keeps no grid, which the convolutions of this backbone need'
        if host.sequences == 'layers' and not hasattr(cls, 'match'):
            return 'finds no pairs, by which alone tokens can merge around the convolutions of this backbone'
        if host.sequences == 'windows' and not cls.by_tokens:
            return 'needs the attention of a whole image, but here tokens merge in windows'
        if host.sequences == 'tokens' and cls.needs_class_token:
            return 'needs a class token, which this backbone is built without'
        return None

    @classmethod
    def plan(cls, config: dict, host: Host) -> Plan:
        config, depth = dict(config), sum(host.depths)
        if 'r' in config:
            r = config.pop('r')
            if isinstance(r, bool) or not isinstance(r, int) or r < 0:
                raise ValueError(f'r must be a number of tokens, got {r!r}')
            if host.in_windows:
                raise ValueError(f'r={r} counts tokens of an image, but here they merge in windows: give a ratio')
            blocks: list[dict[str, Any] | None] = [dict(r=r) if r else None] * depth
        else:
            if config.get('window', 7) is None:
                raise ValueError(f'merger {cls.__name__} keeps no grid, so window=None, one mask for a whole map, '
                                 'does not suit it: give the side of a window')
            # One may have to make good what the blocks before could not take away.
            pairs = _window_pairs(config, host, host.progressive and not host.in_windows)
            least = min(ratio for _, _, ratio in pairs)
            if least < cls.least_share:
                raise ValueError(f'merger {cls.__name__} leaves at least {cls.least_share:.3g} of the tokens of a '
                                 f'block, but {least:.3g} shall be left: choose a larger ratio, or LTM, AvgPool or '
                                 'Random')
            blocks = [None if source == target and ratio == 1 else dict(source=source, target=target)
                      for source, target, ratio in pairs]
        return host.by_stage([block and dict(config, **block, index=index, depth=depth)
                              for index, block in enumerate(blocks)])

    def extra_repr(self) -> str:
        return f'source={self.source}, target={self.target}' if self.r is None else f'r={self.r}'
