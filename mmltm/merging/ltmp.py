"""LTMP: Bonnaerens and Dambre, "Learned Thresholds Token Merging and Pruning for Vision Transformers", TMLR 2023.

Between attention and MLP of a block, tokens are matched as in ToMe; a pair whose similarity exceeds a learnt
threshold merges, then tokens whose importance does not exceed another one are dropped. Importance is the attention
that a token receives, the mean over heads and over the tokens that attend. In training nothing
leaves: masks m of zeros and ones take part in attention, S_ij = exp(A_ij) m_j / sum_k exp(A_ik) m_k, and the
gradient of a step is that of sigmoid((score - threshold) / temperature). In evaluation tokens do leave, as many as
all images of the batch can spare, so a batch of one is shortest; those that another image cannot spare are masked.

:func:`budget_loss`, to be added to the loss of the task, steers the thresholds to a share of the operations.

Departures: in the gradient of its mask, a token that is masked counts no more in S than the strongest that is not,
for exp(A_ij) alone has no bound. Importance is multiplied by the number of tokens that attend, so that its mean is 1
and one learning rate and one temperature serve both thresholds. Sequences without a class token have no token that
must stay; of these the most important one always does. Operations are counted as the paper counts them, with the
class token among the tokens, but for MLPs of any width, and added up over stages of different shapes; what lies
between the blocks (the convolutions of MobileViT) does not count.
"""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from mmltm.ib.constants import exporting

from .base import Host, Plan
from .grids import Grid, check_ratios
from .sequences import Attention, History, SequenceMerger, take


def soft_step(scores: Tensor, threshold: Tensor, temperature: float) -> Tensor:
    """1 where a score exceeds the threshold, else 0, with the gradient of a sigmoid."""
    soft = ((scores - threshold) / temperature).sigmoid()
    # In this order the value is exactly 0 or 1.
    return (scores > threshold).to(soft) + (soft - soft.detach())


def match_kept(metric: Tensor, kept: Tensor, class_token: bool = True) -> tuple[Tensor, Tensor]:
    """Similarity of each token to its best partner, -inf for those that look for none, and its place, both (B, N).

    Of those kept, (B, N), counted from 0, the ones at even places look for partners among those at odd places; a class
    token has none. Tokens are compared by ``metric``, (B, N, d).
    """
    odd = (kept.long().cumsum(-1) % 2 == 0) & kept
    looking = kept & ~odd
    if class_token:
        looking[:, 0] = False
    metric = F.normalize(metric, dim=-1)
    similarity = (metric @ metric.transpose(-2, -1)).masked_fill(~odd[:, None], -math.inf)
    best, partners = similarity.max(-1)
    return best.masked_fill(~looking, -math.inf), partners


class LTMP(SequenceMerger):
    """Merges and drops the tokens of one block by two thresholds that it learns.

    Args:
        ratio (float): Share of the operations that :func:`budget_loss` asks for, all blocks together.
        mlp_ratio (float): Hidden channels of the block's MLP over its channels, for that loss. Defaults to 4.
        temperature (float): Of the sigmoids whose gradients stand in for those of the steps. Defaults to 0.1.
        merge_threshold (float): At the start; at 1 no tokens are similar enough. Defaults to 1.0.
        prune_threshold (float): At the start; at 0 all tokens are important enough. Defaults to 0.0.
        **kwargs: See :class:`SequenceMerger`.

    Attributes:
        shape (tuple, optional): Tokens of a sequence and their channels in the last batch, before any left the stage.
        share (Tensor, optional): Share of the tokens that were left of the last batch, of shape ().
    """
    amounts = ('ratio', )
    ratio_per_block = False
    has_windows = False
    has_loss = True
    explicit = True

    def __init__(self, ratio: float, mlp_ratio: float = 4., temperature: float = 0.1, merge_threshold: float = 1.0,
                 prune_threshold: float = 0.0, **kwargs) -> None:
        super().__init__(**kwargs)
        if temperature <= 0:
            raise ValueError(f'temperature must be positive, got {temperature}')
        self.ratio, self.mlp_ratio, self.temperature = ratio, mlp_ratio, temperature
        self.merge_threshold = nn.Parameter(torch.tensor(float(merge_threshold)))
        self.prune_threshold = nn.Parameter(torch.tensor(float(prune_threshold)))
        self.shape: tuple[int, int] | None = None
        self.share: Tensor | None = None

    @classmethod
    def plan(cls, config: dict, host: Host) -> Plan:
        config = dict(config)
        ratio = config.pop('ratio')
        if isinstance(ratio, (list, tuple)):
            raise ValueError(f'ratio={ratio}: LTMP learns what each block keeps, so give one number for all')
        ratio, = check_ratios(ratio, 1)
        mlp_ratios = host.mlp_ratios or [4.] * len(host.depths)
        blocks = [mlp_ratio for mlp_ratio, depth in zip(mlp_ratios, host.depths) for _ in range(depth)]
        return host.by_stage([
            dict(config, ratio=ratio, mlp_ratio=mlp_ratio, index=index, depth=len(blocks)) if ratio < 1 else None
            for index, mlp_ratio in enumerate(blocks)])

    def remaining(self, count: int, grid: Grid) -> tuple[int, Grid]:
        """All tokens: how many are left is for the thresholds to say."""
        return count, grid

    def forward(self, tokens: Tensor, attention: Attention | None, history: History, keep: int | None = None,
                class_token: bool = True) -> tuple[Tensor, History]:
        assert attention is not None and attention.scores is not None  # it is explicit
        mask = torch.ones_like(history.sizes) if history.weights is None else history.weights
        # The mean over the attending tokens, times their number.
        importance = (attention.scores.mean(1) * mask[..., None]).sum(1)

        similarity, partners = match_kept(attention.keys.mean(1), mask > 0, class_token)
        merges = soft_step(similarity, self.merge_threshold, self.temperature).to(mask)
        tokens, sizes = _merge(tokens, history.sizes, merges, partners)
        places = torch.arange(tokens.shape[1], device=tokens.device)
        mask = mask * (1 - merges)
        history = history.moved(lambda: torch.where(merges > 0, partners, places), sizes, mask)

        stays = soft_step(importance, self.prune_threshold, self.temperature).to(mask)
        spared = torch.zeros_like(partners[:, :1])
        if not class_token:
            spared = importance.masked_fill(mask <= 0, -math.inf).argmax(1, keepdim=True)
        stays = stays.scatter(1, spared, 1.)
        weights = mask * stays
        history = history.dropped(tokens, stays)._replace(weights=weights)

        self.shape = history.total, tokens.shape[-1]
        self.share = weights.float().sum(1).mean() / history.total
        # A graph has no room for as many tokens as a batch happens to need: there they stay, masked, as in training.
        return (tokens, history) if self.training or exporting() else _leave(tokens, history, weights)

    def __getstate__(self) -> dict:
        return {**self.__dict__, 'share': None}

    def extra_repr(self) -> str:
        return f'ratio={self.ratio}, temperature={self.temperature}'


def _merge(tokens: Tensor, sizes: Tensor, merges: Tensor, partners: Tensor) -> tuple[Tensor, Tensor]:
    """Means of tokens, (B, N, C), with those that merge (``merges`` 1) into them as partners, and their sizes."""
    shares = sizes * merges
    total = sizes.scatter_add(1, partners, shares)
    own, added = (tokens * weight[..., None].to(tokens) for weight in (sizes, shares))
    sums = own.scatter_add(1, partners[..., None].expand_as(added), added)
    return sums / total[..., None].to(tokens), total


def _leave(tokens: Tensor, history: History, weights: Tensor) -> tuple[Tensor, History]:
    """The tokens that at least one image of the batch needs; those of the others are masked."""
    kept = weights > 0
    longest = int(kept.sum(1).max())
    order = (~kept).long().argsort(dim=-1, stable=True)
    left = order[:, :longest]
    weights = weights.gather(1, left)
    return take(tokens, left), history.moved(lambda: order.argsort(-1).clamp(max=longest - 1),
                                             history.sizes.gather(1, left), None if weights.all() else weights)


def operations(shares: Tensor, tokens: int, channels: int, mlp_ratio: float = 4.) -> Tensor:
    """Multiply-accumulates of a stage of transformer blocks (LTMP, section 3.3), of shape ().

    The sequence has so many tokens before the first block; the blocks hand shares of them, (L, ), to their MLPs and on.
    """
    before = torch.cat((torch.ones_like(shares[:1]), shares[:-1]))
    linear, pairs = tokens * channels**2, tokens**2 * channels
    return ((4 * before + 2 * mlp_ratio * shares) * linear + 2 * before**2 * pairs).sum()


def budget_loss(model: nn.Module) -> Tensor:
    """Squared distance of the share of operations from the mergers' ``ratio``, of shape (), for the batch seen last.

    The paper adds ten times this to the loss of the task. A stage is a ``ModuleList`` with an entry for each of its
    blocks, the merger of the block, or, behind the first of them, a module of another type where a block merges
    nothing. The stages count alike, since they see equally many sequences of an image.

    Raises:
        ValueError: The model has no LTMP merger, or has seen no batch.
    """
    stages = [module for module in model.modules()
              if isinstance(module, nn.ModuleList) and any(isinstance(block, LTMP) for block in module)]
    if not stages:
        raise ValueError('the model has no LTMP merger: set merger=dict(type="LTMP", ratio=...) of its backbone')
    left, full = [], []
    for stage in stages:
        shares: list[Tensor] = []
        for block in stage:
            if isinstance(block, LTMP):
                if block.share is None or block.shape is None:
                    raise ValueError('the budget of LTMP is about a batch, and the model has seen none')
                merger, shape, share = block, block.shape, block.share
            shares.append(share)  # blocks without a merger hand on what they get
        left.append(operations(torch.stack(shares), *shape, merger.mlp_ratio))
        full.append(operations(torch.ones_like(torch.stack(shares)), *shape, merger.mlp_ratio))
    return (torch.stack(left).sum() / torch.stack(full).sum() - merger.ratio).square()
