"""What a verdict stands on: held-out predictions against what was seen, and the two halves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from malfl_algos.recovered import RecoveredRewards
from malfl_algos.report.run_files import Run
from malfl_algos.report.scatter import DIAGONAL, agreement_text, draw_points
from malfl_algos.report.style import (
    look,
    new_figure,
    new_panels,
    set_margins,
    set_panel_title,
    set_title,
    shared_legend,
    shortened,
    soften,
)

__all__ = ["draw", "evidence_figure", "frequencies", "with_evidence"]

FloatArray = NDArray[np.float64]

FEWEST = 20
"""Actions of a bin that is drawn: fewer say nothing of a frequency."""
SMALLEST = 1e-3
"""Lower end of the axes of probabilities; the upper end is 1 less this."""
TICKS = {
    **{0.001: "<0.001", 0.01: "0.01", 0.1: "0.1", 0.25: "0.25", 0.5: "0.5"},
    **{0.75: "0.75", 0.9: "0.9", 0.99: "0.99", 0.999: ">0.999"},
}
NAMES = ("reward of the other half", "no change since the stage before")
LOOKS = (look(0), look(1))


def draw(run: Run, family: str, observer: str) -> Figure | None:
    """Draw the evidence of the first seed; None if the observer's verdict has none."""
    result = run.result(family, run.seeds[0], observer)
    if result is None or not with_evidence(result):
        return None
    return evidence_figure(
        result, title=f"Held-out evidence, {observer}, {family}, {run.first_seed}"
    )


def with_evidence(result: RecoveredRewards) -> list[str]:
    """The agents of which the verdict has what this figure shows."""
    needed = {"calibration", "divergence", "halves"}
    return [agent for agent, own in result.verdict.agents.items() if needed <= {*own.arrays}]


def frequencies(bins: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean prediction and observed frequency of every bin, and 2 standard errors of the latter.

    The standard error is that of independent draws with one probability, which is never smaller
    than that of draws with different ones.

    Args:
        bins: `(n_bins, 3)` as `malfl_algos.verdict.drawn.calibration` gives them.

    Returns:
        Each `(n_drawn,)`; bins with fewer than `FEWEST` steps are left out.
    """
    steps, expected, played = bins[bins[:, 0] >= FEWEST].T
    frequency = played / steps
    # (k + 2) / (n + 4), Agresti and Coull 1998: an error above 0 where no or every step had it
    centre = (played + 2) / (steps + 4)
    return expected / steps, frequency, 2 * np.sqrt(centre * (1 - centre) / (steps + 4))


def evidence_figure(
    result: RecoveredRewards,
    *,
    title: str,
    agents: Sequence[str] | None = None,
    narrow: bool = False,
) -> Figure:
    """Draw two panels for each agent.

    The first shows the policies that each half of the improvements predicts for the stages of the
    other half, against the frequencies of the actions there. The second shows the rewards of the
    two halves against each other, with 2 posterior standard deviations.

    Args:
        result: with the arrays of its verdict.
        title: of the figure.
        agents: whose; None: all that have them.
        narrow: whether the panels of an agent are below each other.
    """
    found = {
        agent: result.verdict.agents[agent].arrays
        for agent in with_evidence(result)
        if agents is None or agent in agents
    }
    n_columns = 1 if narrow else 2
    n_rows = 2 * len(found) // n_columns
    figure = new_figure(0.5 + 4.1 * n_columns, 1.15 + 3.6 * n_rows)
    panels = new_panels(figure, n_rows, n_columns).reshape(len(found), 2)
    for (left, right), (agent, arrays) in zip(panels, found.items(), strict=True):
        name = shortened(str(agent), 24).replace("$", r"\$")
        _draw_calibration(left, arrays, name)
        _draw_halves(right, arrays["halves"], name)
    rows_of_legend = shared_legend(figure)
    set_title(figure, title, "bars: 2 standard errors of frequencies, 2 posterior sd of rewards")
    shape = n_rows, n_columns
    set_margins(figure, shape, left=0.8, title_lines=2, legend_rows=rows_of_legend)
    return figure


def _draw_calibration(axes: Axes, arrays: Mapping[str, Any], name: str) -> None:
    end = 0.2
    parts = zip(arrays["calibration"], NAMES, LOOKS, strict=True)
    for number, (bins, label, own) in enumerate(parts):
        predicted, seen, error = frequencies(bins)
        # a bin in which nothing, or everything, was played is drawn on the frame
        at, shown, low, high = (
            np.clip(value, SMALLEST, 1 - SMALLEST)
            for value in (predicted, seen, seen - error, seen + error)
        )
        errors = [shown - low, high - shown]
        draw_points(axes, at, shown, None, errors, own, label=label, hollow=number == 1)
        drawn = np.concatenate([at, low, high])
        end = min([end, *drawn, *(1 - drawn)])
    axes.plot([end, 1 - end], [end, 1 - end], **DIAGONAL)
    axes.set_xscale("logit")
    axes.set_yscale("logit")
    ends = (end / 1.3, 1 - end / 1.3)
    axes.set(xlim=ends, ylim=ends)
    inner = (0.25, 0.75) if end < 0.03 else ()
    ticks = {p: text for p, text in TICKS.items() if ends[0] <= p <= ends[1] and p not in inner}
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(list(ticks), list(ticks.values()))
        axis.set_minor_locator(NullLocator())
    axes.set_xlabel("predicted probability of an action")
    axes.set_ylabel("frequency in held-out stages")
    own, unchanged = arrays["divergence"]
    set_panel_title(
        axes, f"{name}: KL divergence {own:.2g} nats a step\n(no change: {unchanged:.2g})"
    )
    soften(axes)


def _draw_halves(axes: Axes, halves: FloatArray, name: str) -> None:
    (odd, odd_sd), (even, even_sd) = halves
    if len(odd) < 2:
        axes.set_axis_off()
        return
    axes.axline((0.0, 0.0), slope=1, **DIAGONAL)
    draw_points(axes, odd, even, 2 * odd_sd, 2 * even_sd, look(2))
    axes.set_xlabel("reward from improvements 1, 3, 5, ...")
    axes.set_ylabel("reward from 2, 4, 6, ...")
    set_panel_title(axes, f"{name}: {agreement_text(odd, even)}\n{len(odd)} joint states")
    soften(axes)
