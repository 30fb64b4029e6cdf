"""From a state dict of another project to that of a classifier of mmltm, and what did not match.

Layers compute alike in all projects: epsilons of norms (1e-6 in ViT, 1e-5 elsewhere), the exact GELU, and the order
of queries, keys and values agree. The authors' EfficientViT divides by the sum of attention weights plus 1e-15; timm
and mmltm add 1e-5.
"""

import re
from collections.abc import Collection
from typing import NamedTuple

from torch import Tensor

from mmltm.errors import UserError
from mmltm.models.builder import build_model
from mmltm.models.checkpoints import is_merging
from mmltm.models.families.base import Family, Layout
from mmltm.models.zoo import family_of, model_config

SOURCES = ('timm', 'mit', 'mmpretrain', 'mmdet')

_OPENMMLAB_NAME = re.compile(r'^backbone\.|^patch_embed\.projection\.|\.global_rep\.|\.w_msa\.')
_CLASSIFIERS = ('head.fc.bias', 'head.layers.head.bias')
#: Buffers whose initial values serve where a checkpoint does not hold them.
_INITIAL = ('.relative_position_index', '.relative_coords_table', '.num_batches_tracked')


class Conversion(NamedTuple):
    """A converted state dict, and the keys without counterpart."""
    state: dict[str, Tensor]  # weights under the model's names, of the model's shapes
    source: str  # where they came from, one of SOURCES
    left_out: list[str]  # keys of a detector's other parts, which nobody has asked for
    unused: list[str]  # keys of the source, under its names, that the model has no place for
    missing: list[str]  # keys of the model that the source does not have, masks aside
    mismatched: list[str]  # keys of both, and their different shapes
    masks: list[str]  # masks of the model, which only checkpoints of mmltm have

    @property
    def complete(self) -> bool:
        """Whether all weights have found their place, and all places but those of masks are filled."""
        return not (self.unused or self.missing or self.mismatched)


def detect(names: Collection[str]) -> str:
    """The project, one of :data:`SOURCES`, whose names these are."""
    if any('input_stem.op_list.' in name for name in names):
        return 'mit'
    if not any(_OPENMMLAB_NAME.search(name) for name in names):
        return 'timm'
    return 'mmpretrain' if any(name in names for name in _CLASSIFIERS) else 'mmdet'


def convert(state: dict[str, Tensor], name: str, source: str = 'auto') -> Conversion:
    """Bring weights of a source (one of :data:`SOURCES`, or 'auto' to tell it by the names) under those of a model.

    The model is a classifier of :func:`mmltm.list_models`, with as many classes as the weights have. Of 'mmdet',
    detectors, only the backbone is converted, with its norms of all outputs. A UserError says what is not known.
    """
    family = family_of(name)
    source = detect(state) if source == 'auto' else source
    state, names, layout = _renamed(state, family, source)
    left_out = [key for key in state if not key.startswith('backbone.')] if source == 'mmdet' else []
    names = {old: new for old, new in names.items() if old not in left_out}
    target = _target(name, source, {new: state[old] for old, new in names.items()})

    converted, unused, mismatched = {}, [], []
    for old, new in names.items():
        value = layout.adapt(old, state[old])
        if new not in target:
            unused.append(old)
        elif value.shape != target[new].shape:
            mismatched.append(f'{old} {tuple(value.shape)}, in the model {new} {tuple(target[new].shape)}')
        else:
            converted[new] = value.contiguous()
    absent = target.keys() - names.values()
    converted.update((key, target[key]) for key in absent if key.endswith(_INITIAL))
    masks = sorted(key for key in absent if is_merging(key))
    missing = sorted(key for key in absent if key not in masks and not key.endswith(_INITIAL))
    return Conversion(converted, source, left_out, unused, missing, mismatched, masks)


def backbone_weights(state: dict[str, Tensor], family: Family) -> tuple[dict[str, Tensor], str]:
    """Weights of a family's backbone under mmltm's names without a prefix, out of a classifier's, and their source.

    A UserError if the family does not have the source that the names tell.
    """
    source = detect(state)
    state, names, layout = _renamed(state, family, source)
    return {new.removeprefix('backbone.'): layout.adapt(old, state[old]).contiguous()
            for old, new in names.items() if new.startswith('backbone.')}, source


def _renamed(state: dict[str, Tensor], family: Family,
             source: str) -> tuple[dict[str, Tensor], dict[str, str], Layout]:
    """The state dict, perhaps below 'backbone.', the new name of each key but constants, and the source's layout."""
    layouts = {**family.layouts, 'mmpretrain': family.openmmlab, 'mmdet': family.openmmlab}
    if source not in layouts:
        raise UserError(f'no conversion of {family.name} from {source!r}, only from {", ".join(layouts)}')
    if source in ('mmpretrain', 'mmdet') and not any(key.startswith('backbone.') for key in state):
        state = {f'backbone.{key}': value for key, value in state.items()}
    found = layouts[source]
    layout = found if isinstance(found, Layout) else found(state)
    return state, layout.rename(
        key for key in state if not (family.constants and re.search(family.constants, key))), layout


def _target(name: str, source: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """State dict of the model that weights, already under its names, are meant for."""
    classes = next((len(state[key]) for key in _CLASSIFIERS if key in state), 1000)
    config = model_config(name, num_classes=classes)
    if source != 'mmdet':
        return build_model(config).state_dict()
    norms = sorted({int(match[1]) for match in (re.match(r'backbone\.norm(\d)\.', key) for key in state) if match})
    backbone = build_model({**config['backbone'], **(dict(out_indices=norms) if norms else {})})
    return {f'backbone.{key}': value for key, value in backbone.state_dict().items()}
