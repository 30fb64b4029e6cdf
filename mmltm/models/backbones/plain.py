"""Plain ViTs: layers in one row, each of which sees what the one before has left over."""

from collections.abc import Collection, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmltm.merging import Host
from mmltm.merging.base import window_sides
from mmltm.merging.grids import Grid, as_grid, check_ratios, map_to_tokens, share_for_mean, tokens_to_map
from mmltm.models.mergers import build_mergers, has_block_ratios

from .common import MergedMap, MergingBackbone, attend, feed_forward, freeze, run


class PlainMergingBackbone(MergingBackbone):
    """A backbone with ``layers`` and, beside them, their ``mergers``."""

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """As the parent's; a mask belongs to the layer whose tokens it merges."""
        masks = f'{prefix}mergers.'
        if param_name.startswith(masks):
            param_name = f'{prefix}layers.{param_name[len(masks):]}'
        parent: Any = super()
        return parent.get_layer_depth(param_name, prefix)

    def _freeze_stages(self: Any) -> None:
        count = self.frozen_stages
        if count <= 0:
            return
        behind = ('ln1', 'ln2', 'channel_reduction') if count == self.num_layers else ()
        modules = [getattr(self, name, None) for name in ('patch_embed', 'drop_after_pos', 'pre_norm', *behind)]
        freeze([*self.layers[:count], *self.mergers[:count], *filter(None, modules)])
        for name in ('pos_embed', 'cls_token'):
            if getattr(self, name, None) is not None:
                getattr(self, name).requires_grad = False


def plain_mergers(config: dict | None, depth: int, host: Host, img_size: Grid) -> nn.ModuleList:
    """Mergers of all layers; the last has none. ``host`` has ``depth - 1`` blocks.

    A ratio in the config is the mean over the layers of the share of tokens that their MLPs see, or a list.
    """
    if config is not None and has_block_ratios(config):
        config = {'rounding': 'area', 'window': 7, 'img_size': img_size, **config}
        ratios = check_ratios(config['ratio'], depth)
        if not isinstance(config['ratio'], (list, tuple)):
            size, window = window_sides(config['img_size']), config['window']
            window = host.grid(0, size) if window is None else window_sides(window)
            ratios = [share_for_mean(window, ratios[0], depth, config['rounding'])] * depth
        config['ratio'] = ratios[:-1]
    return build_mergers(config, host)[0].append(nn.Identity())


def encode_on_grid(layers: Iterable[Any], mergers: Iterable[nn.Module], x: Tensor, grid: Grid, extra: int,
                   wanted: Collection[int], restores: bool, with_cp: bool) -> list[tuple[Tensor, Grid]]:
    """Tokens behind each of the ``wanted`` layers, (B, extra + h w, C), and their grid, by mergers that keep a grid.

    ``x`` are tokens of ``grid`` behind ``extra`` others, which are never merged. ``restores``: the outputs have all
    their tokens. Layers are mmpretrain's ``TransformerEncoderLayer``, or named alike.
    """
    outputs, merged = [], MergedMap()
    for index, (layer, merger) in enumerate(zip(layers, mergers)):
        x = run(partial(attend, layer), x, with_cp)
        if not isinstance(merger, nn.Identity):
            patches = merged.merge(merger, tokens_to_map(x[:, extra:], grid))
            x, grid = torch.cat((x[:, :extra], map_to_tokens(patches)), dim=1), as_grid(patches.shape[-2:])
        x = run(partial(feed_forward, layer), x, with_cp)
        if index not in wanted:
            continue
        if restores and merged.merges:
            full = merged.restore(tokens_to_map(x[:, extra:], grid))
            outputs.append((torch.cat((x[:, :extra], map_to_tokens(full)), dim=1), as_grid(full.shape[-2:])))
        else:
            outputs.append((x, grid))
    return outputs
