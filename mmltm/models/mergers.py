"""From a config's ``merger=dict(type=..., ratio=...)`` to the merger of every block of a backbone."""

from itertools import islice
from typing import List, Optional, Sequence, Tuple, Union

import torch.nn as nn
from mmengine.registry import Registry

from mmltm.merging import LTM, check_ratios, window_schedule
from mmltm.merging.grids import Grid, separate_schedule

#: Token mergers. A merger is built for one block: ``source`` and ``target`` are its base window before and after,
#: ``embed_dims`` the channels of a token, ``first`` says whether no block merges before it. Called with a map, (B, ...,
#: C, H, W), and what the merger before handed on (None at first), it returns an operator with ``merge``, ``unmerge``,
#: ``restore`` and ``detour`` (None: do not merge), and what it hands on itself. The channels of a map may come last in
#: memory, and its tokens in groups, the dimensions between, which are merged alike.
TOKEN_MERGERS = Registry('token merger', scope='mmltm', locations=['mmltm.models.mergers'])
TOKEN_MERGERS.register_module(module=LTM)


def merger_config(merger: Optional[dict], ratio: Optional[Union[float, Sequence[float]]]) -> Optional[dict]:
    """One merger config from a backbone's two arguments, ``ratio=r`` being short for LTM at that ratio.

    Returns:
        dict, optional: None for a vanilla backbone.

    Raises:
        ValueError: If both say a ratio, or ``merger`` says none.
    """
    if merger is None:
        return None if ratio is None else dict(type='LTM', ratio=ratio)
    merger = dict(merger)
    if ratio is not None:
        if 'ratio' in merger:
            raise ValueError(f"ratio={ratio} and merger['ratio']={merger['ratio']}: give one of them")
        merger['ratio'] = ratio
    if 'ratio' not in merger:
        raise ValueError(f"merger={merger} lacks 'ratio', the share of tokens that is kept")
    return merger


def window_sides(window: Union[int, Sequence[int]]) -> Grid:
    """Height and width of a base window, given as one side or both."""
    return (window, window) if isinstance(window, int) else tuple(window)


def _shrinkings(window: Grid, ratios: Sequence[float], depths: Sequence[int], rounding: str,
                progressive: bool) -> List[List[Tuple[Grid, Grid]]]:
    """Base window before and after every block's merge, stage by stage."""
    if not progressive:
        targets = iter(separate_schedule(window, ratios, rounding))
        return [[(window, target) for target in islice(targets, depth)] for depth in depths]
    remaining, stages = iter(ratios), []
    for depth in depths:
        grids = window_schedule(window, list(islice(remaining, depth)), rounding)
        stages.append(list(zip(grids, grids[1:])))
    return stages


def build_mergers(merger: Optional[dict],
                  depths: Sequence[int],
                  embed_dims: Sequence[int],
                  progressive: bool = True) -> List[nn.ModuleList]:
    """A merger for every block of every merging stage; identities where a block keeps its grid.

    The base window starts afresh in every stage, whose first block sees the stage's full grid.

    Args:
        merger (dict, optional): Config of the merger: ``type``, ``ratio`` (float, or one value for each block of all
            stages), ``window`` (side of the base window, or a pair; defaults to 7), ``rounding`` (defaults to
            'nearest', or, if not progressive, to 'area'), and what else the type takes. None means no merging.
        depths (Sequence[int]): Number of merging blocks of every stage.
        embed_dims (Sequence[int]): Channels of every stage.
        progressive (bool): A block merges what the block before has left over; else every block sees the full grid,
            because the one before has brought all tokens back. Defaults to True.

    Raises:
        ValueError: For an unknown type, or ratios outside (0, 1] or of the wrong number.
    """
    if merger is None:
        return [nn.ModuleList(nn.Identity() for _ in range(depth)) for depth in depths]
    merger = dict(merger)
    # Not Registry.build, which would look for the type under the config's default scope first, and warn.
    name = merger.pop('type', None)
    merger_type = TOKEN_MERGERS.get(name) if isinstance(name, str) else name
    if merger_type is None:
        raise ValueError(f'merger type must be one of {tuple(TOKEN_MERGERS.module_dict)}, got {name!r}')
    ratios = check_ratios(merger.pop('ratio'), sum(depths))
    window = window_sides(merger.pop('window', 7))
    rounding = merger.pop('rounding', 'nearest' if progressive else 'area')
    stages, first = [], True
    for shrinkings, channels in zip(_shrinkings(window, ratios, depths, rounding, progressive), embed_dims):
        mergers = nn.ModuleList()
        for source, target in shrinkings:
            if source == target:
                mergers.append(nn.Identity())
                continue
            mergers.append(merger_type(source=source, target=target, embed_dims=channels, first=first, **merger))
            first = False
        stages.append(mergers)
    return stages
