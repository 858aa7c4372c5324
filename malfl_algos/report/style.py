"""How every figure looks: colours, titles, axes, notes and legends.

Neither pyplot nor Matplotlib's settings are touched. A figure is drawn on its own Agg canvas, and
its parts carry all that differs from Matplotlib's defaults, so the PNG bytes depend on the figure
alone.

A score is missing where it is not defined (a constant ground truth, a constant estimate). The files
of a run then hold null or an empty cell, the arrays here NaN.
"""

from __future__ import annotations

import io
import textwrap
import threading
import warnings
from collections.abc import Collection, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from malfl_algos.scores.means import INTERVAL
from malfl_algos.scores.registry import ScoreEntry

__all__ = [
    "MUTED",
    "Look",
    "axis_label",
    "band_note",
    "legend_columns",
    "look",
    "new_figure",
    "new_panels",
    "png_bytes",
    "set_margins",
    "set_panel_title",
    "set_title",
    "shared_legend",
    "shortened",
    "soften",
    "stage_axis",
    "standardise",
    "style_axes",
]

FloatArray = NDArray[np.float64]

_one_at_a_time = threading.Lock()

DPI = 150
MUTED = "#6b6b6b"

# The colours of Okabe and Ito without yellow (too pale on white), two of Paul Tol, and a grey.
# Neighbours differ in lightness as well as in hue.
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
    """The look of series number `index`: ten colours, each with its own marker."""
    return Look(
        COLOURS[index % len(COLOURS)],
        MARKERS[index % len(MARKERS)],
        DASHES[index % len(DASHES)],
    )


def new_figure(width: float, height: float) -> Figure:
    """An empty figure with an Agg canvas and constrained layout; width and height in inches."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def new_panels(figure: Figure, n_rows: int, n_columns: int, **options: Any) -> NDArray[Any]:
    """Axes in the style of this report, `(n_rows, n_columns)`; options as in `Figure.subplots`."""
    found = figure.subplots(n_rows, n_columns, squeeze=False, **options)
    for axes in found.flat:
        style_axes(axes)
    return np.asarray(found)


def style_axes(axes: Axes) -> Axes:
    """Set colours, line widths and font sizes of one panel, whatever Matplotlib's settings are."""
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
    """Write a title above one panel. Its height is given, so Matplotlib need not look for one."""
    axes.set_title(title, loc=loc, size=10.5, y=1.0)


def set_title(figure: Figure, title: str, note: str) -> None:
    """Write a bold title, and centred under it a muted note ("" for no note), on short lines."""
    title = _wrapped(title, figure.get_figwidth() / 0.098)
    if not note:
        figure.suptitle(title, weight="bold", size=12)
        return
    note = _wrapped(note, figure.get_figwidth() / 0.078)
    empty = "\n" * (note.count("\n") + 1)
    heading = figure.suptitle(f"{title}{empty}", weight="bold", size=12)
    # the heading ends with empty lines, in which the note is placed
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


def _wrapped(text: str, most: float) -> str:
    """A text on as few lines as fit, of about equal lengths."""
    lines = textwrap.wrap(text, int(most))
    even = textwrap.wrap(text, min(int(most), len(text) // max(len(lines), 1) + 8))
    return "\n".join(even if len(even) == len(lines) else lines)


def soften(axes: Axes, *, grid: Literal["both", "x", "y"] = "both") -> None:
    """Remove the frame's upper and right edge and draw a faint grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, axis=grid, color="#e4e4e4", linewidth=0.8)
    axes.tick_params(length=3)


def png_bytes(figure: Figure) -> bytes:
    """Render a figure; no version or time is written, so equal figures give equal bytes.

    Letters that the font lacks are drawn as boxes, without Matplotlib's warning about each of them.
    """
    buffer = io.BytesIO()
    with _one_at_a_time, warnings.catch_warnings():  # filters belong to the whole process
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from", UserWarning)
        # unlike savefig, this does not lay out and draw the whole figure twice
        canvas: Any = figure.canvas
        canvas.draw()
        # every figure has a white ground, so nothing shines through
        drawn = Image.fromarray(np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3]))
        drawn.save(buffer, format="png", dpi=(figure.dpi, figure.dpi), compress_level=2)
    return buffer.getvalue()


def stage_axis(axes: Axes, positions: Sequence[int], label: str) -> None:
    """Set whole-number ticks and limits that fit the positions."""
    pad = max(0.3, 0.03 * (positions[-1] - positions[0]))
    axes.set_xlim(positions[0] - pad, positions[-1] + pad)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=11, integer=True, min_n_ticks=1))
    axes.set_xlabel(label)


def axis_label(score: ScoreEntry) -> str:
    """The label of a score's axis: its title, its unit, and which end is better."""
    unit = f" ({score.unit})" if score.unit else ""
    if score.lower_is_better is None:
        return f"{score.title}{unit}"
    return f"{score.title}{unit}\n{'lower' if score.lower_is_better else 'higher'} is better"


def band_note(n_seeds: int, averaged: str) -> str:
    """The note under a title that explains line and band."""
    if n_seeds < 2:
        return f"one seed, so no interval; {averaged}"
    return f"mean and {INTERVAL} over {n_seeds} seeds; {averaged}"


def legend_columns(labels: Collection[str], width: float) -> int:
    """Number of legend columns, at most 6, that fit into a width in inches."""
    column = 0.7 + 0.075 * max(map(len, labels))
    return max(1, min(6, len(labels), int(width / column)))


def shared_legend(figure: Figure) -> int:
    """Draw one legend below all panels: every label once, in order of first appearance.

    Returns:
        Its number of rows.
    """
    entries: dict[str, Artist] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        for handle, label in zip(handles, labels, strict=True):
            entries.setdefault(label, handle)
    n_columns = legend_columns(entries, figure.get_figwidth())
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside lower center",
        ncols=n_columns,
        fontsize=9.5,
        frameon=False,
        handlelength=3.2,
    )
    return -(-len(entries) // n_columns)


def set_margins(
    figure: Figure,
    shape: tuple[int, int],
    *,
    left: float,
    title_lines: int,
    legend_rows: int = 0,
    shared_axes: bool = False,
) -> None:
    """Place panels by the known sizes of texts, after titles and legend.

    Matplotlib's layout engine, which measures them, takes as long as the drawing.

    Args:
        figure: with panels of equal sizes from `new_panels`.
        shape: numbers of rows and columns of panels.
        left: width of the labels of a vertical axis, inches.
        title_lines: of the panels' titles.
        legend_rows: of `shared_legend`.
        shared_axes: whether only the outer panels have labels.
    """
    figure.set_layout_engine("none")
    width, height = figure.get_size_inches()
    (n_rows, n_columns), labels, right = shape, 0.5, 0.25
    titles = 0.17 * title_lines + 0.12
    top = 0.02 * height + 0.2 * (figure.get_suptitle().count("\n") + 1) + 0.05 + titles
    bottom = labels + (0.22 * legend_rows + 0.1 if legend_rows else 0.02)
    beside, below = (0.15, titles) if shared_axes else (left + 0.1, labels + titles + 0.05)
    panel_width = (width - left - right - beside * (n_columns - 1)) / n_columns
    panel_height = (height - top - bottom - below * (n_rows - 1)) / n_rows
    figure.subplotpars.update(
        left=left / width,
        right=1 - right / width,
        top=1 - top / height,
        bottom=bottom / height,
        wspace=beside / panel_width,
        hspace=below / panel_height,
    )
    for axes in figure.axes:
        place = axes.get_subplotspec()
        if place is not None:
            axes.set_position(place.get_position(figure))


def shortened(text: str, most: int) -> str:
    """A text of at most `most` letters."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def standardise(values: FloatArray) -> FloatArray:
    """Values of any shape, shifted and scaled to mean 0 and standard deviation 1.

    A constant becomes 0. Values that are not finite become NaN.
    """
    finite = np.isfinite(values)
    present = values[finite]
    if not present.size:
        return np.full(values.shape, np.nan)
    spread = present.std()
    if spread <= 1e-12 * np.abs(present).max():
        spread = np.inf
    return np.where(finite, (np.where(finite, values, 0.0) - present.mean()) / spread, np.nan)
