"""What figures of mmltm have in common: no pyplot, hence no global state and no display."""

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mmengine.visualization.utils import img_from_canvas


def new_figure(width: float, height: float, dpi: int = 100) -> Figure:
    """An empty figure, in inches, whose parts keep clear of each other."""
    figure = Figure(figsize=(width, height), dpi=dpi, layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def to_image(figure: Figure) -> np.ndarray:
    """The figure as RGB pixels, (H, W, 3), uint8."""
    figure.canvas.draw()
    return img_from_canvas(figure.canvas)


def depth_colors(count: int) -> list[tuple]:
    """A colour for each of ``count`` things in order; the later, the darker."""
    colormap = matplotlib.colormaps['viridis_r']
    return [colormap(0.1 + 0.9 * index / max(count - 1, 1)) for index in range(count)]
