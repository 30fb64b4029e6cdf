"""From a config's ``merger=dict(type=..., ratio=...)`` to the merger of every block of a backbone."""

from typing import List, Optional, Sequence, Union

import torch.nn as nn
from mmengine.registry import Registry

from mmltm.merging import LTM, check_ratios, window_schedule

#: Token mergers. A merger is built for one block: ``source`` and ``target`` are its base window before and after,
#: ``embed_dims`` the channels of a token, ``first`` says whether no block merges before it. Called with a map and what
#: the merger before handed on (None at first), it returns an operator with ``merge``, ``unmerge`` and ``restore``
#: (None: do not merge), and what it hands on itself.
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


def build_mergers(merger: Optional[dict], depths: Sequence[int], embed_dims: Sequence[int]) -> List[nn.ModuleList]:
    """A merger for every block of every merging stage; identities where a block keeps its grid.

    The base window starts afresh in every stage, whose first block sees the stage's full grid.

    Args:
        merger (dict, optional): Config of the merger: ``type``, ``ratio`` (float, or one value for each block of all
            stages), ``window`` (side of the base window, or a pair; defaults to 7), ``rounding`` (defaults to
            'nearest'), and what else the type takes. None means no merging.
        depths (Sequence[int]): Number of merging blocks of every stage.
        embed_dims (Sequence[int]): Channels of every stage.

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
    window = merger.pop('window', 7)
    window = (window, window) if isinstance(window, int) else tuple(window)
    rounding = merger.pop('rounding', 'nearest')
    stages, start, first = [], 0, True
    for depth, channels in zip(depths, embed_dims):
        grids = window_schedule(window, ratios[start:start + depth], rounding)
        start += depth
        mergers = nn.ModuleList()
        for source, target in zip(grids, grids[1:]):
            if source == target:
                mergers.append(nn.Identity())
                continue
            mergers.append(merger_type(source=source, target=target, embed_dims=channels, first=first, **merger))
            first = False
        stages.append(mergers)
    return stages
