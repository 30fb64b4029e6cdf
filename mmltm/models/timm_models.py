"""Token merging for timm's plain ViTs, with timm's interface and the names of its weights.

Masks stand in ``mergers``, beside ``blocks``. ViT, DeiT and DINOv2 merge as :class:`.LTMVisionTransformer` does: later
blocks attend to the tokens left, and features have all of them again. Positions of EVA-02's and DINOv3's attention are
rotations by a token's place on its grid, so their blocks merge for the MLP alone, as Swin's do.
"""

from collections.abc import Collection
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.models import Eva, VisionTransformer
from timm.models._features import feature_take_indices
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import EvaBlock
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from mmltm.errors import UserError
from mmltm.merging import Host, SequenceMerger
from mmltm.merging.grids import Grid, as_grid, tokens_to_map
from mmltm.merging.sequences import History

from .backbones.common import encode_sequence, run
from .backbones.plain import encode_on_grid, plain_mergers
from .mergers import build_mergers, has_block_ratios, merger_config


class _Attention:
    """The attention of timm's ``Block`` with layer scale and stochastic depth, by the names of mmpretrain's."""
    scaled_dot_product_attention = staticmethod(F.scaled_dot_product_attention)

    def __init__(self, block: Any) -> None:
        self.attn = attn = block.attn
        self.qkv, self.num_heads, self.proj, self.proj_drop = attn.qkv, attn.num_heads, attn.proj, attn.proj_drop
        self.attn_drop, self.training = attn.attn_drop.p, attn.training
        self.gamma1, self.out_drop = block.ls1, block.drop_path1

    def __call__(self, x: Tensor) -> Tensor:
        return self.out_drop(self.gamma1(self.attn(x)))


class _Layer:
    """timm's ``Block`` by the names of mmpretrain's ``TransformerEncoderLayer``."""

    def __init__(self, block: Any) -> None:
        self.block, self.ln1, self.ln2, self.attn = block, block.norm1, block.norm2, _Attention(block)

    def ffn(self, x: Tensor, identity: Tensor) -> Tensor:
        return identity + self.block.drop_path2(self.block.ls2(self.block.mlp(x)))


class TimmMerging(nn.Module):
    """Mixin of timm's models with token merging: what computes features."""
    block: type[nn.Module]
    mergers: nn.ModuleList
    blocks: Any
    patch_embed: Any
    norm: Any
    num_prefix_tokens: int
    grad_checkpointing: bool

    def merge(self, config: dict) -> None:
        """Build the mergers of a config."""
        raise NotImplementedError

    def encode(self, x: Tensor, grid: Grid, wanted: Collection[int]) -> list[Tensor]:
        """All tokens, (B, N, C), behind each of the wanted blocks, of images whose patches lie on a grid."""
        raise NotImplementedError

    def forward_features(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """As the vanilla model's, whose masks of attention have no meaning here: a UserError."""
        if attn_mask is not None or is_causal:
            raise UserError('attn_mask and is_causal are about all tokens: they do not go with merged ones')
        return self.norm(self.encode(x, self._grid(x), (len(self.blocks) - 1, ))[0])

    def forward_intermediates(self, x: Tensor, indices: int | list[int] | None = None,
                              return_prefix_tokens: bool = False, norm: bool = False, stop_early: bool = False,
                              output_fmt: str = 'NCHW', intermediates_only: bool = False) -> Any:
        """As the vanilla model's; ``stop_early`` follows from ``intermediates_only``."""
        grid, extra, last = self._grid(x), self.num_prefix_tokens, len(self.blocks) - 1
        taken = sorted({*feature_take_indices(last + 1, indices)[0]})
        wanted = taken if intermediates_only or last in taken else [*taken, last]
        outputs = self.encode(x, grid, wanted)
        maps: list[Any] = [self.norm(output) if norm else output for output in outputs[:len(taken)]]
        prefixes = [output[:, :extra] for output in maps]
        maps = [output[:, extra:] for output in maps]
        if output_fmt == 'NCHW':
            maps = [tokens_to_map(output, grid).contiguous() for output in maps]
        if return_prefix_tokens and extra:
            maps = list(zip(maps, prefixes))
        return maps if intermediates_only else (self.norm(outputs[-1]), maps)

    def no_weight_decay(self) -> set[str]:
        """Decay would pull every mask logit to the point where its entry is a coin toss."""
        parent: Any = super()
        return parent.no_weight_decay() | {f'mergers.{name}' for name, _ in self.mergers.named_parameters()}

    def _grid(self, x: Tensor) -> Grid:
        return as_grid(self.patch_embed.dynamic_feat_size(x.shape[-2:]))


class _PlainMerging(TimmMerging):
    block = Block

    def merge(self, config: dict) -> None:
        model: Any = self
        sequences = {0: 'tokens', 1: 'class_token'}.get(self.num_prefix_tokens, 'none')
        host = Host([len(self.blocks) - 1], [model.embed_dim], sequences=sequences,
                    strides=[self.patch_embed.patch_size[0]])
        self.mergers = plain_mergers(config, len(self.blocks), host, self.patch_embed.img_size or (224, 224))
        attn = self.blocks[0].attn
        if self.in_sequence and (attn.gate is not None or not all(
                isinstance(module, nn.Identity) for module in (attn.q_norm, attn.k_norm, attn.norm))):
            raise UserError('attention that norms or gates its queries, keys or outputs needs a merger that keeps the '
                            'grid, as LTM, AvgPool or Random')

    @property
    def in_sequence(self) -> bool:
        """Whether mergers keep no grid."""
        return any(isinstance(merger, SequenceMerger) for merger in self.mergers)

    def encode(self, x: Tensor, grid: Grid, wanted: Collection[int]) -> list[Tensor]:
        model: Any = self
        x = model.norm_pre(model.patch_drop(model._pos_embed(self.patch_embed(x))))
        layers, extra = [_Layer(block) for block in self.blocks[:max(wanted) + 1]], self.num_prefix_tokens
        if not self.in_sequence:
            return [tokens for tokens, _ in encode_on_grid(
                layers, self.mergers, x, grid, extra, wanted, True, self.grad_checkpointing)]
        outputs, history = [], History.whole(x)
        for index, (layer, merger) in enumerate(zip(layers, self.mergers)):
            x, history, grid = encode_sequence(layer, merger, x, history, grid, extra == 1, self.grad_checkpointing)
            if index in wanted:
                outputs.append(history.restore(x))
        return outputs


class LTMTimmVisionTransformer(_PlainMerging, VisionTransformer):  # type: ignore[misc]
    """timm's ``VisionTransformer`` with token merging."""


class LTMTimmDistilled(_PlainMerging, VisionTransformerDistilled):  # type: ignore[misc]
    """timm's DeiT with a distillation token and with token merging."""


class LTMTimmEva(TimmMerging, Eva):  # type: ignore[misc]
    """timm's ``Eva``, of EVA-02 and DINOv3, with token merging in every MLP."""
    block = EvaBlock

    def merge(self, config: dict) -> None:
        host = Host([len(self.blocks)], [self.embed_dim], progressive=False, sequences='windows',
                    strides=[self.patch_embed.patch_size[0]])
        if has_block_ratios(config):
            config.setdefault('window', 8)  # it fills their 224, 256, 336 and 448 pixels
        self.mergers = build_mergers(config, host)[0]

    def encode(self, x: Tensor, grid: Grid, wanted: Collection[int]) -> list[Tensor]:
        x, rope = self._pos_embed(self.patch_embed(x))
        x, extra = self.norm_pre(x), self.num_prefix_tokens
        ropes = rope if getattr(self, 'rope_mixed', False) and rope is not None else [rope] * len(self.blocks)
        outputs, carry = [], None
        for index, (block, merger, rope) in enumerate(zip(self.blocks[:max(wanted) + 1], self.mergers, ropes)):
            operator = None
            x = run(partial(_attend, block, rope), x, self.grad_checkpointing)
            if not isinstance(merger, nn.Identity):
                operator, carry = merger(tokens_to_map(x[:, extra:], grid), carry)
            x = run(partial(_feed_forward, block, operator, extra), x, self.grad_checkpointing)
            if index in wanted:
                outputs.append(x)
        return outputs


def _attend(block: Any, rope: Tensor | None, x: Tensor) -> Tensor:
    """First half of an ``EvaBlock``."""
    update = block.attn(block.norm1(x), rope=rope)
    return x + block.drop_path1(update if block.gamma_1 is None else block.gamma_1 * update)


def _feed_forward(block: Any, operator: Any, extra: int, x: Tensor) -> Tensor:
    """Second half, on merged tokens if there is an operator, but for ``extra`` tokens in front."""

    def mlp(tokens: Tensor) -> Tensor:
        update = block.mlp(block.norm2(tokens))
        return update if block.gamma_2 is None else block.gamma_2 * update

    if operator is None:
        return x + block.drop_path2(mlp(x))
    return x + block.drop_path2(torch.cat((mlp(x[:, :extra]), operator.detour(x[:, extra:], mlp)), 1))


#: By the very class of the vanilla model: a derived one may compute something else with the same layers.
KINDS: dict[type, type[TimmMerging]] = {
    VisionTransformer: LTMTimmVisionTransformer, VisionTransformerDistilled: LTMTimmDistilled, Eva: LTMTimmEva}


def merge_timm(model: Any, merger: dict) -> Any:
    """Give a model of timm's mergers, by their config; a UserError if its blocks are of a kind that is not known."""
    kind = KINDS.get(type(model))
    if kind is None:
        raise UserError(f'apply_ltm knows {", ".join(known.__name__ for known in KINDS)} of timm\'s models, '
                        f'got {type(model).__name__}')
    odd = next((type(block).__name__ for block in model.blocks if type(block) is not kind.block), None)
    if odd is not None:
        raise UserError(f'apply_ltm knows blocks of timm\'s {kind.block.__name__}, got {odd}')
    if not isinstance(getattr(model, 'patch_drop', None), (nn.Identity, type(None))):
        raise UserError('patch_drop_rate leaves no grid to merge on: build the model with patch_drop_rate=0')
    model.__class__ = kind
    config = merger_config(merger, None)
    assert config is not None
    model.merge(config)
    model.mergers.to(next(model.parameters()).device).train(model.training)
    return model
