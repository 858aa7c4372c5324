"""How every picture looks: palette, type sizes, and PNG bytes that depend on the picture alone.

Nothing here touches pyplot or leaves a trace in the global rcParams.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from typing import NamedTuple, ParamSpec

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation

__all__ = ["MUTED", "Look", "house_style", "look", "new_figure", "png_bytes", "set_title", "soften"]

Parameters = ParamSpec("Parameters")

DPI = 150
MUTED = "#6b6b6b"

# Okabe and Ito's colours without their yellow (too pale on white), two of Paul Tol's and a grey;
# neighbours differ in lightness as well as in hue.
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#882255",
    "#999933",
    "#7A7A7A",
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
DASHES: tuple[str | tuple[int, tuple[float, ...]], ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (3, 1.2, 1, 1.2)),
    (0, (1.2, 1.2)),
)

_RC = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#8a8a8a",
    "axes.labelsize": 10,
    "axes.linewidth": 0.8,
    "axes.titlesize": 10.5,
    "figure.titlesize": 12,
    "font.size": 10,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "xtick.color": "#444444",
    "xtick.labelsize": 9,
    "ytick.color": "#444444",
    "ytick.labelsize": 9,
}


class Look(NamedTuple):
    """Colour, marker and line style of one series."""

    colour: str
    marker: str
    dash: str | tuple[int, tuple[float, ...]]


def look(index: int) -> Look:
    """The look of series number `index`: ten colours, told apart by marker and dash as well."""
    return Look(
        COLOURS[index % len(COLOURS)],
        MARKERS[index % len(MARKERS)],
        DASHES[index % len(DASHES)],
    )


def _style() -> AbstractContextManager[None]:
    """Matplotlib's defaults and ours on top, whatever a matplotlibrc says, for a while."""
    return matplotlib.style.context(["default", _RC])


def house_style(draw: Callable[Parameters, Figure]) -> Callable[Parameters, Figure]:
    """Run a drawing function under the style of this report and put back what was there before."""

    @wraps(draw)
    def styled(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Figure:
        with _style():
            return draw(*args, **kwargs)

    return styled


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, with an Agg canvas and constrained layout."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def set_title(figure: Figure, title: str, note: str) -> None:
    """A bold title with a muted note of one line (or none: "") under it, centred."""
    if not note:
        figure.suptitle(title, weight="bold")
        return
    heading = figure.suptitle(f"{title}\n", weight="bold")
    # the heading's empty second line keeps the place that the note is hung in
    figure.add_artist(
        Annotation(
            note,
            (0.5, 0.0),
            xycoords=heading,
            ha="center",
            va="bottom",
            color=MUTED,
            size=9.5,
            annotation_clip=False,
        )
    )


def soften(axes: Axes, *, grid: str = "both") -> None:
    """Take away the frame's upper and right edge and lay a faint grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, axis=grid)  # type: ignore[arg-type]
    axes.tick_params(length=3)


def png_bytes(figure: Figure) -> bytes:
    """Render a figure; equal figures give equal bytes: no version or time is written."""
    buffer = io.BytesIO()
    with _style():
        # unlike savefig, this does not lay out and draw the whole figure twice
        figure.canvas.print_png(buffer, metadata={"Software": None})  # type: ignore[attr-defined]
    return buffer.getvalue()
