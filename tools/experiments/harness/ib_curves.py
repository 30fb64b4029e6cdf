"""Curves of information-bottleneck quantities over the layers of a network (the LTM paper's Figure 2)."""

import re
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes

#: What is reported of a layer, by the keys of :class:`mmltm.evaluation.IBMetric` and of the training's log.
TITLES = dict(
    ib_loss='IB loss, nats', ib_bound='IB bound, nats', mi_input='I(X~, X), nats', mi_label='I(X~, Y), nats',
    mask_step='mask step, L1 a column')

Position = tuple[int, ...]


def position(name: str) -> Position:
    """Where in its network a module is: the numbers in its name.

    A merger (``stages.2.mergers.1``) and the vanilla block's module that is measured in its place
    (``stages.2.blocks.1.context``) have the same.
    """
    return tuple(int(number) for number in re.findall(r'(?<=\.)\d+(?=\.|$)', name))


def plot_over_layers(axes: Axes, curves: dict[str, dict[Position, float]], key: str, styles: Sequence[dict]) -> None:
    """One line a model over all layers that any of them has, in the order of the network.

    ``curves`` are values by the position of the layer, by the label of the line; ``key`` is the quantity, of
    :data:`TITLES`, and ``styles`` are arguments of matplotlib's ``plot`` for each line.
    """
    layers = sorted(set().union(*curves.values()))
    for (label, values), style in zip(curves.items(), styles):
        places = [place for place, layer in enumerate(layers) if layer in values]
        axes.plot(places, [values[layers[place]] for place in places], **{'marker': 'o', 'label': label, **style})
    ticks = ticks_for(layers)
    crowded = len(layers) > 12 or max(map(len, ticks)) > 4
    axes.set_xticks(range(len(layers)), ticks, rotation=60 if crowded else 0, fontsize='small')
    axes.set(xlabel='layer', ylabel=TITLES[key])
    axes.grid(alpha=0.3)


def ticks_for(layers: Sequence[Position]) -> list[str]:
    """Short names of layers."""
    return ['.'.join(map(str, layer)) or 'all' for layer in layers]


def depth_colors(count: int) -> list[tuple]:
    """A colour for each of ``count`` things in order; the later, the darker."""
    colormap = matplotlib.colormaps['viridis_r']
    return [colormap(0.1 + 0.9 * index / max(count - 1, 1)) for index in range(count)]
