"""What figures of mmltm have in common: no pyplot, hence no global state and no display."""

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def new_figure(width: float, height: float, dpi: int = 100) -> Figure:
    """An empty figure, in inches, whose parts keep clear of each other."""
    return FigureCanvasAgg(Figure(figsize=(width, height), dpi=dpi, layout='constrained')).figure


def depth_colors(count: int) -> list[tuple]:
    """A colour for each of ``count`` things in order; the later, the darker."""
    colormap = matplotlib.colormaps['viridis_r']
    return [colormap(0.1 + 0.9 * index / max(count - 1, 1)) for index in range(count)]
