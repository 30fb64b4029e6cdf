"""What figures of mmltm have in common: no pyplot, hence no global state and no display."""

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def new_figure(width: float, height: float, dpi: int = 100) -> Figure:
    """An empty figure, in inches, whose parts keep clear of each other."""
    return FigureCanvasAgg(Figure(figsize=(width, height), dpi=dpi, layout='constrained')).figure
