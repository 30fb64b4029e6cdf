"""From a config's ``merger=dict(type=..., ratio=...)`` to the merger of every block of a backbone."""

from collections.abc import Iterable, Sequence
from itertools import islice

import torch.nn as nn
from mmengine.registry import Registry

from mmltm.merging import LTM, LTMP, AvgPool, Crop, EViT, Random, SoftMerging, ToFu, ToMe, check_ratios, window_schedule
from mmltm.merging.grids import Grid, separate_schedule
from mmltm.merging.sequences import Detour, SequenceMerger
from mmltm.merging.soft import WINDOWS

#: Token mergers, of two kinds. A merger is built for one block.
#:
#: One that keeps the grid is built from its base window before and after, ``source`` and ``target``, the channels of
#: a token, ``embed_dims``, and whether no block merges before it, ``first``. Called with a map, (B, ..., C, H, W),
#: and what the merger before handed on (None at first), it returns an operator with ``merge``, ``unmerge``,
#: ``restore`` and ``detour`` (None: do not merge), and what it hands on itself. The channels of a map may come last
#: in memory, and its tokens in groups, the dimensions between, which are merged alike.
#:
#: One that does not is a :class:`~mmltm.merging.sequences.SequenceMerger`.
TOKEN_MERGERS = Registry('token merger', scope='mmltm', locations=['mmltm.models.mergers'])
for _merger in (LTM, AvgPool, Random, Crop, SoftMerging, ToMe, ToFu, EViT, LTMP):
    TOKEN_MERGERS.register_module(module=_merger)

#: What a backbone can do for mergers that keep no grid: nothing, merge within windows for an MLP alone, let all
#: tokens of a sequence go on, with or without a class token among them.
SEQUENCES = ('none', 'windows', 'tokens', 'class_token')


def merger_config(merger: dict | None, ratio: float | Sequence[float] | None) -> dict | None:
    """One merger config from a backbone's two arguments, ``ratio=r`` being short for LTM at that ratio.

    Returns:
        dict, optional: None for a vanilla backbone.

    Raises:
        ValueError: If both say a ratio, or ``merger`` does not say how many tokens are kept, or says it twice.
    """
    if merger is None:
        return None if ratio is None else dict(type='LTM', ratio=ratio)
    merger = dict(merger)
    if ratio is not None:
        if 'ratio' in merger:
            raise ValueError(f"ratio={ratio} and merger['ratio']={merger['ratio']}: give one of them")
        merger['ratio'] = ratio
    merger_type = _merger_type(merger)
    if 'r' in merger and (merger_type is LTMP or not issubclass(merger_type, SequenceMerger)):
        raise ValueError(f"merger {merger_type.__name__} takes no number of tokens, got r={merger['r']}")
    if merger_type is SoftMerging:
        if 'ratio' in merger:
            raise ValueError(f'merger={merger}: SoftMerging keeps one of p tokens, so give p (2 or 4), not a ratio')
    elif 'r' in merger and 'ratio' in merger:
        raise ValueError(f"ratio={merger['ratio']} and r={merger['r']}: give one of them")
    elif not ('r' in merger or 'ratio' in merger):
        raise ValueError(f"merger={merger} lacks 'ratio', the share of tokens that is kept")
    return merger


def has_block_ratios(merger: dict) -> bool:
    """Whether the ratio in a merger's config says the share of tokens that each block keeps."""
    return 'ratio' in merger and _merger_type(merger) is not LTMP


def window_sides(window: int | Sequence[int]) -> Grid:
    """Height and width of a base window, given as one side or both."""
    return (window, window) if isinstance(window, int) else tuple(window)


def build_mergers(merger: dict | None,
                  depths: Sequence[int],
                  embed_dims: Sequence[int],
                  progressive: bool = True,
                  sequences: str = 'none',
                  mlp_ratios: Sequence[float] | None = None) -> list[nn.ModuleList]:
    """A merger for every block of every merging stage; identities where a block keeps its tokens.

    The base window starts afresh in every stage, whose first block sees the stage's full grid.

    Args:
        merger (dict, optional): Config of the merger: ``type``, ``ratio`` (float, or one value for each block of all
            stages), ``window`` (side of the base window, or a pair; defaults to 7), ``rounding`` (defaults to
            'nearest', or, if not progressive, to 'area'), and what else the type takes. None means no merging. In
            place of ``ratio``, SoftMerging takes ``p``, 2 or 4 (defaults to 2), and ``position``, which blocks merge,
            counted over all stages (defaults to the first of every stage if progressive, else to all), and ToMe, ToFu
            and EViT may take ``r``, the number of tokens that every block takes away.
        depths (Sequence[int]): Number of merging blocks of every stage.
        embed_dims (Sequence[int]): Channels of every stage.
        progressive (bool): A block merges what the block before has left over; else every block sees the full grid,
            because the one before has brought all tokens back. Defaults to True.
        sequences (str): What the backbone can do for mergers that keep no grid, one of :data:`SEQUENCES`. In windows,
            these see the full grid in every block. Defaults to 'none'.
        mlp_ratios (Sequence[float], optional): Hidden channels of every stage's MLPs over its channels, for mergers
            that count operations. Defaults to 4 in all stages.

    Raises:
        ValueError: For an unknown type or one that the backbone cannot use, or ratios outside (0, 1], of the wrong
            number, or smaller than a block can attain.
    """
    if merger is None:
        return [nn.ModuleList(nn.Identity() for _ in range(depth)) for depth in depths]
    merger = dict(merger)
    merger_type = _merger_type(merger)
    merger.pop('type')
    _check_use(merger_type, sequences)
    keeps_grid = not issubclass(merger_type, SequenceMerger)
    if merger_type is SoftMerging:
        plan = _plan_positions(merger, depths, progressive)
    elif merger_type is LTMP:
        plan = _plan_budget(merger, depths, mlp_ratios or [4.] * len(depths))
    elif 'r' in merger:
        r = _pop_r(merger, sequences)
        plan = [[dict(r=r) if r else None] * depth for depth in depths]
    else:
        plan = _plan_ratios(merger, merger_type, depths, progressive and (keeps_grid or sequences != 'windows'))

    stages, index, first = [], 0, True
    for blocks, channels in zip(plan, embed_dims):
        mergers = nn.ModuleList()
        for block in blocks:
            if block is None:
                mergers.append(nn.Identity())
            elif keeps_grid:
                if issubclass(merger_type, LTM):
                    block = dict(block, base=next(filter(None, blocks))['source'] if progressive else block['source'])
                mergers.append(merger_type(**block, embed_dims=channels, first=first, **merger))
                first = False
            else:
                built = merger_type(**block, index=index, depth=sum(depths), **merger)
                mergers.append(Detour(built) if sequences == 'windows' else built)
            index += 1
        stages.append(mergers)
    return stages


def _merger_type(merger: dict) -> type:
    # Not Registry.build, which would look for the type under the config's default scope first, and warn.
    name = merger.get('type')
    merger_type = TOKEN_MERGERS.get(name) if isinstance(name, str) else name
    if merger_type is None:
        raise ValueError(f'merger type must be one of {tuple(TOKEN_MERGERS.module_dict)}, got {name!r}')
    return merger_type


def _usable(merger_type: type, sequences: str) -> bool:
    if not issubclass(merger_type, SequenceMerger):
        return True
    return {
        'none': False,
        'windows': merger_type.by_tokens,
        'tokens': not merger_type.needs_class_token,
        'class_token': True
    }[sequences]


def _check_use(merger_type: type, sequences: str) -> None:
    if not _usable(merger_type, sequences):
        reason = {
            'none': 'keeps no grid, which the convolutions of this backbone need',
            'windows': 'needs the attention of a whole image, but here tokens merge in windows',
            'tokens': 'needs a class token, which this backbone is built without'
        }[sequences]
        # Crop is for measurements of time: no advice.
        usable = (name for name, known in TOKEN_MERGERS.module_dict.items()
                  if known is not Crop and _usable(known, sequences))
        raise ValueError(f'merger {merger_type.__name__} {reason}: choose one of {", ".join(usable)}')


#: For every block of every stage what its merger is built with, or None where it merges nothing.
Plan = list[list[dict | None]]


def _by_stage(blocks: Iterable[dict | None], depths: Sequence[int]) -> Plan:
    blocks = iter(blocks)
    return [list(islice(blocks, depth)) for depth in depths]


def _plan_budget(merger: dict, depths: Sequence[int], mlp_ratios: Sequence[float]) -> Plan:
    """The share of operations that all blocks together keep, and what each block's MLP takes of them."""
    ratio = merger.pop('ratio')
    if isinstance(ratio, (list, tuple)):
        raise ValueError(f'ratio={ratio}: LTMP learns what each block keeps, so give one number for all')
    ratio, = check_ratios(ratio, 1)
    return [[dict(ratio=ratio, mlp_ratio=mlp_ratio) if ratio < 1 else None] * depth
            for depth, mlp_ratio in zip(depths, mlp_ratios)]


def _plan_positions(merger: dict, depths: Sequence[int], progressive: bool) -> Plan:
    """Windows of soft merging at its positions."""
    count, p, positions = sum(depths), merger.pop('p', 2), merger.pop('position', None)
    if p not in WINDOWS:
        raise ValueError(f'p must be one of {tuple(WINDOWS)}, the tokens that become one, got {p!r}')
    if positions is None:
        starts = [sum(depths[:stage]) for stage, depth in enumerate(depths) if depth]
        positions = starts if progressive else range(count)
    positions = [positions] if isinstance(positions, int) else list(positions)
    for position in positions:
        if not 0 <= position < count:
            raise ValueError(f'position must be in [0, {count - 1}], the blocks that can merge, got {position}')
    block = dict(source=WINDOWS[p], target=(1, 1))
    return _by_stage((block if index in positions else None for index in range(count)), depths)


def _plan_ratios(merger: dict, merger_type: type, depths: Sequence[int], progressive: bool) -> Plan:
    """Base window before and after every block's merge, from the share of tokens that each block keeps."""
    ratios, keeps_grid = check_ratios(merger.pop('ratio'), sum(depths)), not issubclass(merger_type, SequenceMerger)
    if not keeps_grid and min(ratios) < merger_type.least_share:
        raise ValueError(f'merger {merger_type.__name__} leaves at least {merger_type.least_share:.3g} of the tokens '
                         f'of a block, but {min(ratios):.3g} shall be left: choose a larger ratio, or LTM, AvgPool '
                         'or Random')
    window = window_sides(merger.pop('window', 7))
    rounding = merger.pop('rounding', 'nearest' if progressive else 'area')
    if progressive:
        remaining, pairs = iter(ratios), []
        for depth in depths:
            grids = window_schedule(window, list(islice(remaining, depth)), rounding)
            pairs += zip(grids, grids[1:])
    else:
        pairs = [(window, target) for target in separate_schedule(window, ratios, rounding)]
    # A merger that keeps no grid may have to make good what the blocks before could not take away.
    return _by_stage((None if source == target and (keeps_grid or ratio == 1) else dict(source=source, target=target)
                      for (source, target), ratio in zip(pairs, ratios)), depths)


def _pop_r(merger: dict, sequences: str) -> int:
    r = merger.pop('r')
    if isinstance(r, bool) or not isinstance(r, int) or r < 0:
        raise ValueError(f'r must be a number of tokens, got {r!r}')
    if sequences == 'windows':
        raise ValueError(f'r={r} counts tokens of an image, but here they merge in windows: give a ratio')
    return r
