"""From a config's ``merger=dict(type=..., ratio=...)`` to the merger of every block of a backbone."""

from collections.abc import Sequence

import torch.nn as nn
from mmengine.registry import Registry

from mmltm.errors import UserError
from mmltm.merging import LTM, LTMP, AvgPool, CubistMerge, EViT, Host, Merger, Random, SoftMerging, ToFu, ToMe
from mmltm.merging.detour import Detour
from mmltm.merging.sequences import SequenceMerger
from mmltm.models.pretrained import statistics_classes

#: Token mergers by name: classes derived from :class:`~mmltm.merging.base.GridMerger` or
#: :class:`~mmltm.merging.sequences.SequenceMerger`.
TOKEN_MERGERS = Registry('token merger', scope='mmltm', locations=['mmltm.models.mergers'])
for _merger in (LTM, AvgPool, Random, CubistMerge, SoftMerging, ToMe, ToFu, EViT, LTMP):
    TOKEN_MERGERS.register_module(module=_merger)

Ratio = float | Sequence[float]


def merger_type(merger: dict) -> type[Merger]:
    """The class that a merger's config names, or is; a UserError if there is none of this name."""
    # Not Registry.build, which would look for the type under the config's default scope first, and warn.
    name = merger.get('type')
    found = TOKEN_MERGERS.get(name) if isinstance(name, str) else name
    if not (isinstance(found, type) and issubclass(found, Merger)):
        raise UserError(f'merger type must be one of {tuple(TOKEN_MERGERS.module_dict)}, got {name!r}')
    return found


def merger_config(merger: dict | str | None, ratio: Ratio | None, preset: str | None = None,
                  pretrained: str | None = None) -> dict | None:
    """One merger config from a backbone's arguments, ``ratio=r`` being short for LTM at that ratio.

    Args:
        merger (dict or str, optional): Config of the merger, or its type; None, without ``ratio``: vanilla backbone.
        ratio (float or Sequence[float], optional): Share of tokens to keep.
        preset (str, optional): Name of settings that stand in for the merger's defaults; what ``merger`` says wins.
            'paper' is the mask module of the LTM paper: one mask for the whole map on the grid that the stage has at
            ``merger['img_size']`` pixels (224), sides rounded up, the binary mask alone in the first block, raw steps
            of exact statistics at beta 1 through a D x D layer, carried from block to block.
        pretrained (str, optional): Checkpoint that the backbone starts from. If its masks keep class statistics, those
            stay, and ``num_classes`` is theirs.

    Raises:
        UserError: If both say different ratios, or ``merger`` does not say how many tokens are kept, or says it twice.
    """
    if merger is None:
        if ratio is None:
            return None
        merger = dict(type='LTM')
    merger = dict(type=merger) if isinstance(merger, str) else dict(merger)
    if ratio is not None:
        if merger.get('ratio', ratio) != ratio:
            raise UserError(f"ratio={ratio} and merger['ratio']={merger['ratio']}: give one of them")
        merger['ratio'] = ratio
    kind = merger_type(merger)
    if preset is not None:
        if preset not in kind.presets:
            raise UserError(f'preset must be one of {tuple(kind.presets)} or None, got {preset!r}')
        merger = {**kind.presets[preset], **merger}
    merger = {key: value for key, value in merger.items() if value is not None or key not in ('ratio', 'r', 'p')}
    for amount in ('ratio', 'r', 'p'):
        if amount in merger and amount not in kind.amounts:
            raise UserError(f'merger {kind.__name__} takes no {amount}, got {amount}={merger[amount]}; it takes '
                             f'{" or ".join(kind.amounts)}')
    given = [amount for amount in kind.amounts if amount in merger]
    if len(given) > 1:
        raise UserError(f'{" and ".join(f"{amount}={merger[amount]}" for amount in given)}: give one of them')
    if not given and not kind.default_amount:
        raise UserError(f"merger={merger} lacks 'ratio', the share of tokens that is kept")
    classes = statistics_classes(pretrained) if issubclass(kind, LTM) else None
    if classes is not None:
        merger['num_classes'] = classes
    return merger if given else {**merger, **kind.default_amount}


def has_block_ratios(merger: dict) -> bool:
    """Whether the ratio in a merger's config says the share of tokens that each block keeps."""
    return 'ratio' in merger and merger_type(merger).ratio_per_block


def build_mergers(merger: dict | None, host: Host) -> list[nn.ModuleList]:
    """A merger for every block of every merging stage; identities where a block keeps its tokens.

    The base window starts afresh in every stage, whose first block sees the stage's full grid.

    Args:
        merger (dict, optional): Config of the merger: ``type``, how many tokens are kept (``ratio``: float, or one
            value for each block of all stages; ToMe, ToFu and EViT may take ``r`` instead, the number of tokens that
            every block takes away; SoftMerging takes ``p``), ``window`` (side of the base window, or a pair; None: the
            whole map, on the grid that a stage has for images of ``img_size`` pixels, 224; defaults to 7),
            ``rounding`` (of its sides, see :func:`~mmltm.merging.grids.window_schedule`; defaults to 'area'), and what
            else the type takes. None means no merging.
        host (Host): What the backbone offers.

    Raises:
        ValueError: A merger that the backbone cannot use, or ratios out of range, of the wrong number, or unattainable.
    """
    if merger is None:
        return [nn.ModuleList(nn.Identity() for _ in range(depth)) for depth in host.depths]
    merger = dict(merger)
    kind = merger_type(merger)
    refusal = kind.refusal(host)
    if refusal:
        usable = (name for name, known in TOKEN_MERGERS.module_dict.items() if not known.refusal(host))
        raise UserError(f'merger {kind.__name__} {refusal}: choose one of {", ".join(usable)}')
    del merger['type']

    def build(block: dict | None) -> nn.Module:
        if block is None:
            return nn.Identity()
        try:
            built = kind(**block)
        except TypeError as error:  # an argument that this merger does not know
            raise UserError(f'merger {kind.__name__}: {error}') from error
        if host.in_windows and isinstance(built, SequenceMerger):
            return Detour(built, host.sequences == 'layers')
        return built

    return [nn.ModuleList(map(build, blocks)) for blocks in kind.plan(merger, host)]
