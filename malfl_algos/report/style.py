"""How every figure looks: palette, type sizes, and PNG bytes that depend on the figure alone.

Neither pyplot nor Matplotlib's settings are touched: a figure is drawn on an Agg canvas of its own,
and all that differs from the defaults is set on its parts.
"""

from __future__ import annotations

import io
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from numpy.typing import NDArray

__all__ = [
    "MUTED",
    "Look",
    "look",
    "new_figure",
    "new_panels",
    "png_bytes",
    "set_panel_title",
    "set_title",
    "soften",
    "style_axes",
]

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

LINE, TEXT = "#8a8a8a", "#444444"


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


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, with an Agg canvas and constrained layout."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def new_panels(figure: Figure, n_rows: int, n_columns: int, **options: Any) -> NDArray[Any]:
    """Axes in the style of this report, `(n_rows, n_columns)`; options as `Figure.subplots`."""
    found = figure.subplots(n_rows, n_columns, squeeze=False, **options)
    for axes in found.flat:
        style_axes(axes)
    return np.asarray(found)


def style_axes(axes: Axes) -> Axes:
    """Set colours, line widths and type sizes of one panel, whatever Matplotlib's settings are."""
    axes.set_facecolor("white")
    axes.set_axisbelow(True)
    axes.grid(visible=False)
    axes.spines[:].set(edgecolor=LINE, linewidth=0.8)
    axes.tick_params(color=TEXT, labelcolor=TEXT, labelsize=9)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_fontsize(10)
        axis.get_offset_text().set_fontsize(9)
    return axes


def set_panel_title(axes: Axes, title: str, *, loc: Literal["left", "center"] = "left") -> None:
    """A title above one panel."""
    axes.set_title(title, loc=loc, size=10.5)


def set_title(figure: Figure, title: str, note: str) -> None:
    """A bold title with a muted note of one line (or none: "") under it, centred."""
    if not note:
        figure.suptitle(title, weight="bold", size=12)
        return
    heading = figure.suptitle(f"{title}\n", weight="bold", size=12)
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


def soften(axes: Axes, *, grid: Literal["both", "x", "y"] = "both") -> None:
    """Take away the frame's upper and right edge and lay a faint grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, axis=grid, color="#e4e4e4", linewidth=0.8)
    axes.tick_params(length=3)


def png_bytes(figure: Figure) -> bytes:
    """Render a figure; equal figures give equal bytes: no version or time is written."""
    buffer = io.BytesIO()
    # unlike savefig, this does not lay out and draw the whole figure twice
    figure.canvas.print_png(buffer, metadata={"Software": None})  # type: ignore[attr-defined]
    return buffer.getvalue()
