"""Contact sheets of token merging: where each block's target token comes from (after the LTM paper's Figure 4).

For every block the image with the target token marked, below it the target's weights on the full grid, and, on
request, which tokens go together. The grid is laid over the image side to side; where strides do not divide the size
of the image, cells are therefore off by less than one cell at the far edges.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.figure import SubFigure
from mmengine.visualization.utils import img_from_canvas
from torch import Tensor

from mmltm.merging.grids import Grid

from .figures import new_figure
from .recorder import RecordedMerge

COLORS = matplotlib.colormaps['inferno']
MARK = '#00e5ff'
#: Panels of a block: its target token, the weights of that, and the groups.
PANELS = ('target', 'weights', 'groups')
#: Width of a panel and height of its text, in inches.
WIDTH, TEXT = 1.9, 0.45


class View(NamedTuple):
    """What a sheet shows of one block."""
    name: str
    merged_grid: Grid  # what the block leaves of the full grid
    token: int  # the target, in row-major order of merged_grid
    weights: np.ndarray  # (H, W), its weights on the full grid
    groups: np.ndarray | None = None  # (H, W), the merged token of each cell, -1 for none


class Sheet(NamedTuple):
    """A model's blocks over one image."""
    title: str
    image: np.ndarray  # (H, W, 3), RGB, uint8, as the model sees it
    views: Sequence[View]


def to_picture(inputs: Tensor, size: Grid) -> np.ndarray:
    """What a pipeline has packed, (3, H, W) in BGR and [0, 255], as RGB pixels, (height, width, 3), uint8.

    It is padded at the right and below to ``size``, height and width of the model's input.
    """
    image = inputs.detach().cpu().clamp(0, 255).byte().flip(0).permute(1, 2, 0).numpy()
    padding = [(0, max(0, wanted - side)) for wanted, side in zip(size, image.shape)]
    return np.pad(image, [*padding, (0, 0)])


def view(merge: RecordedMerge, image: int = 0, token: int | None = None, point: tuple[float, float] | None = None,
         groups: bool = False) -> View:
    """What to show of a recorded merge: weights of a target token for an image of the batch, and groups if asked for.

    The target is ``token``, else the one that takes most of ``point``, x and y as shares in [0, 1) of the image's width
    and height, else the most representative one, see :meth:`RecordedMerge.representative`.
    """
    composition = merge.composition
    if token is None and point is not None:
        height, width = composition.grid
        token = composition.token_at((int(point[1] * height), int(point[0] * width)), image)
    if token is None or token < 0:  # what was pruned goes into no token
        token = merge.representative(image)
    return View(merge.name, composition.merged_grid, token, composition.weights(token, image).numpy(),
                composition.groups(image).numpy() if groups else None)


def draw_sheets(sheets: Sequence[Sheet]) -> np.ndarray:
    """Draw the sheets of one or several models, with at least one view each: an RGB picture, (H, W, 3), uint8.

    Every block is a column, and models stand below each other. Of single blocks the panels stand side by side instead,
    and models too.
    """
    panels = [panel for panel in PANELS if panel != 'groups' or sheets[0].views[0].groups is not None]
    columns = max(len(sheet.views) for sheet in sheets)
    height = max(WIDTH * sheet.image.shape[0] / sheet.image.shape[1] for sheet in sheets) + TEXT
    single = columns == 1
    if single:
        figure = new_figure(len(sheets) * len(panels) * (WIDTH + 0.15) + 0.7, height + 0.4, dpi=120)
    else:
        figure = new_figure(columns * (WIDTH + 0.1) + 1.0, len(sheets) * (len(panels) * height + 0.4), dpi=120)
    parts = figure.subfigures(*((1, len(sheets)) if single else (len(sheets), 1)), squeeze=False)
    for part, sheet in zip(parts.flat, sheets):
        _draw_sheet(part, sheet, panels, columns, sideways=single)
    figure.canvas.draw()
    return img_from_canvas(figure.canvas)


def _draw_sheet(figure: SubFigure, sheet: Sheet, panels: list[str], columns: int, sideways: bool) -> None:
    shape = (columns, len(panels)) if sideways else (len(panels), columns)
    axes = figure.subplots(*shape, squeeze=False)
    axes = axes.T if sideways else axes
    figure.suptitle(sheet.title, fontsize='medium', fontweight='bold')
    for panel in axes.flat:
        panel.set(xticks=[], yticks=[])
        panel.set_axis_off()
    for column, (block, cells) in enumerate(zip(sheet.views, axes.T)):
        for name, panel in zip(panels, cells):
            panel.set_axis_on()
            _DRAW[name](panel, sheet.image, block)
            if column == 0 and not sideways:
                panel.set_ylabel(name, fontsize='small')
    bar = figure.colorbar(ScalarMappable(cmap=COLORS), ax=axes[1, -1] if sideways else axes[1, :].tolist(),
                          shrink=0.9, pad=0.03 if sideways else 0.01, aspect=14)
    bar.ax.tick_params(labelsize='x-small')
    bar.set_label('weight / largest', fontsize='x-small')


def _draw_target(axes: Axes, image: np.ndarray, block: View) -> None:
    (h, w), (merged_h, merged_w) = block.weights.shape, block.merged_grid
    axes.imshow(image)
    strong = block.weights >= 0.5 * block.weights.max()
    outline = _borders(np.pad(strong, 1)) - 1
    for color, width in (('black', 2.6), (MARK, 1.3)):
        _draw_lines(axes, outline, image, block.weights.shape, color=color, linewidth=width)
    if merged_h == 1:  # a row of tokens without a grid
        left = f'{merged_w}, token {block.token}'
    else:
        left = f'{merged_h}×{merged_w}, token ({block.token // merged_w}, {block.token % merged_w})'
    axes.set_title(f'{block.name}\n{h}×{w} → {left}', fontsize='x-small')


def _draw_weights(axes: Axes, image: np.ndarray, block: View) -> None:
    largest = float(block.weights.max())
    size = image.shape[1::-1]
    heat = cv2.resize(block.weights / max(largest, 1e-12), size, interpolation=cv2.INTER_LINEAR).clip(0, 1)
    gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB) / 255.
    opacity = 0.8 * np.sqrt(heat)[..., None]
    axes.imshow((1 - opacity) * 0.6 * gray + opacity * COLORS(heat)[..., :3])
    axes.set_title(f'largest weight {largest:.2f}', fontsize='x-small')


def _draw_groups(axes: Axes, image: np.ndarray, block: View) -> None:
    groups = block.groups
    assert groups is not None
    tokens, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    shared = ((counts > 1) & (tokens >= 0))[inverse].reshape(groups.shape)
    # At random, so that no pattern of the grid meets a pattern of the hues; the same in every picture.
    hues = np.random.default_rng(0).random(groups.max() + 2)
    wheel = matplotlib.colors.hsv_to_rgb([(hue, 0.85, 1.0) for hue in hues])
    size = image.shape[1::-1]
    opacity = cv2.resize(0.5 * shared.astype(np.float32), size, interpolation=cv2.INTER_NEAREST)[..., None]
    colors = cv2.resize(wheel[groups].astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
    axes.imshow((1 - opacity) * image / 255. + opacity * colors)
    _draw_lines(axes, _borders(groups), image, groups.shape, color='white', linewidth=0.4)
    dropped = np.count_nonzero(groups < 0)
    title = f'{int((counts > 1)[tokens >= 0].sum())} groups of two and more'
    axes.set_title(f'{title}, {dropped} dropped' if dropped else title, fontsize='x-small')


_DRAW = dict(target=_draw_target, weights=_draw_weights, groups=_draw_groups)


def _draw_lines(axes: Axes, lines: np.ndarray, image: np.ndarray, grid: Grid, **style) -> None:
    """Draw lines given in cells of a grid that is laid over the image."""
    scale = np.array([image.shape[1] / grid[1], image.shape[0] / grid[0]])
    axes.add_collection(LineCollection(lines * scale - 0.5, capstyle='round', **style), autolim=False)


def _borders(labels: np.ndarray) -> np.ndarray:
    """Edges between cells of different labels, (k, 2, 2): both ends, each x and y, in cells."""
    rows, columns = np.nonzero(labels[1:] != labels[:-1])
    lying = np.stack([np.stack([columns, rows + 1], 1), np.stack([columns + 1, rows + 1], 1)], 1)
    rows, columns = np.nonzero(labels[:, 1:] != labels[:, :-1])
    standing = np.stack([np.stack([columns + 1, rows], 1), np.stack([columns + 1, rows + 1], 1)], 1)
    return np.concatenate([lying, standing])
