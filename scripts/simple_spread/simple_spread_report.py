"""Table and figures of the study of simple spread, from its finished parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from simple_spread_seed import TRUE, read_part

from malfl_algos.report.series import draw_series
from malfl_algos.report.style import (
    band_note,
    look,
    new_figure,
    new_panels,
    png_bytes,
    set_panel_title,
    set_title,
    shared_legend,
    soften,
    stage_axis,
)
from malfl_algos.scores import mean_interval
from malfl_algos.storage.arrays import read_arrays
from malfl_algos.storage.durable import write_bytes
from malfl_env.errors import InputError

__all__ = ["write_report"]

FloatArray = NDArray[np.float64]
Parts = Mapping[int, Mapping[str, Any]]
"""Per seed, the results of one part."""

MOST_POINTS = 20_000


def write_report(root: Path) -> str:
    """Write `table.md`, `returns.png` and `rewards_<observer>.png`; return the table.

    Raises:
        InputError: if no seed has finished learning.
    """
    seeds = {int(path.name.removeprefix("seed_")): path for path in sorted(root.glob("seed_*"))}
    learners = _parts(seeds, "learners")
    if not learners:
        raise InputError(f"no finished seed of a study in {root}")
    labels = sorted({path.parent.name for path in root.glob("seed_*/*/scores.json")})
    table = "\n".join(["| | mean | 95 % interval | seeds |", "|---|---|---|---|"])
    for title, values in _rows(seeds, learners, labels):
        table += f"\n| {title} | {_interval(values)} |"
    write_bytes(root / "table.md", f"{table}\n".encode())
    fresh = {label: _parts(seeds, f"{label}/fresh") for label in labels}
    fresh = {label: parts for label, parts in fresh.items() if parts}
    figures = {"returns.png": returns_figure(learners, _parts(seeds, TRUE), fresh)}
    for label in labels:
        pairs = [path / label / "pairs.npz" for path in seeds.values()]
        found = [read_arrays(path)[0] for path in pairs if path.exists()]
        figures[f"rewards_{label}.png"] = rewards_figure(found)
    for name, figure in figures.items():
        write_bytes(root / name, png_bytes(figure))
    return table


def _parts(seeds: Mapping[int, Path], name: str) -> Parts:
    found = {seed: read_part(path, name) for seed, path in seeds.items()}
    return {seed: content for seed, content in found.items() if content is not None}


def _rows(
    seeds: Mapping[int, Path], learners: Parts, labels: Sequence[str]
) -> list[tuple[str, dict[int, list[float | None]]]]:
    """Return the titles, and per seed a value for every agent."""
    true = _parts(seeds, TRUE)
    rows = [
        ("return, uniform play", _single(learners, lambda part: part["uniform_return"])),
        ("return, learners, last stage", _single(learners, _last)),
        ("return, retrained agents, ground-truth reward", _single(true, _last)),
    ]
    for label in labels:
        of = f" ({label})" if len(labels) > 1 else ""
        fresh = _parts(seeds, f"{label}/fresh")
        if fresh:
            rows.append((f"return, retrained agents, recovered reward{of}", _single(fresh, _last)))
            title = f"gain by the recovered reward{of} / by the ground-truth reward"
            rows.append((title, _relative_gain(fresh, true)))
    for label in labels:
        of = f", {label}" if len(labels) > 1 else ""
        scores = _parts(seeds, f"{label}/scores")
        for key, title in CORRELATIONS.items():
            for kind, symbol in (("pearson", "Pearson r"), ("spearman", "Spearman rho")):
                values = {
                    seed: [agent[kind] for agent in own[key].values()]
                    for seed, own in scores.items()
                }
                rows.append((f"{symbol}{of}, {title}", values))
        for key, title in LIKELIHOODS.items():
            rows.append((f"next stage{of}: {title}", _over_no_change(scores, key)))
    return rows


CORRELATIONS = {"correlation": "stages shown", "correlation_next_stage": "next stage"}
LIKELIHOODS = {
    "predicted": "predicted, nats per step above no change",
    "played": "played policies, nats per step above no change",
    "uniform": "uniform play, nats per step above no change",
}


def _last(part: Mapping[str, Any]) -> float:
    return float(part["returns"][-1])


def _relative_gain(fresh: Parts, true: Parts) -> dict[int, list[float | None]]:
    """Return the gain of retrained agents, relative to the gain by the ground-truth reward."""
    return {
        seed: [(_last(own) - own["returns"][0]) / (_last(true[seed]) - true[seed]["returns"][0])]
        for seed, own in fresh.items()
        if seed in true
    }


def _over_no_change(scores: Parts, key: str) -> dict[int, list[float | None]]:
    return {
        seed: [
            value - own["likelihood"]["no_change"][agent]
            for agent, value in own["likelihood"][key].items()
        ]
        for seed, own in scores.items()
    }


def _single(
    parts: Mapping[int, Mapping[str, Any]], value: Callable[[Mapping[str, Any]], float]
) -> dict[int, list[float | None]]:
    return {seed: [value(content)] for seed, content in parts.items()}


def _interval(values: Mapping[int, Sequence[float | None]]) -> str:
    found = mean_interval(values)
    if found.mean is None:
        return f"{found.reason} | | 0"
    digits = 2 if abs(found.mean) > 2 else 4 if abs(found.mean) < 0.02 else 3
    # adding 0 makes 0 of -0
    mean, *ends = (
        f"{round(number, digits) + 0.0:.{digits}f}"
        for number in (found.mean, *(found.interval or ()))
    )
    return f"{mean} | {' to '.join(ends)} | {found.n_seeds}"


def returns_figure(learners: Parts, true: Parts, fresh: Mapping[str, Parts]) -> Figure:
    """Draw the ground-truth return of an episode in each stage."""
    figure = new_figure(7.2, 4.4)
    axes = new_panels(figure, 1, 1)[0, 0]
    curves = {"learners, ground-truth reward": learners, "retrained agents, ground truth": true}
    curves |= {
        "retrained agents, recovered reward" + (f" ({label})" if len(fresh) > 1 else ""): parts
        for label, parts in fresh.items()
    }
    longest = 1
    curves = {label: parts for label, parts in curves.items() if parts}
    for index, (label, parts) in enumerate(curves.items()):
        values = np.array([content["returns"] for content in parts.values()])
        positions = list(range(values.shape[1]))
        longest = max(longest, len(positions))
        draw_series(axes, positions, values, look(index), label=label, n_series=len(curves))
    uniform = float(np.mean([content["uniform_return"] for content in learners.values()]))
    axes.axhline(uniform, color="#6b6b6b", linewidth=1, label="uniform play")
    stage_axis(axes, list(range(longest)), "stage")
    axes.set_ylabel("ground-truth return of an episode,\nmean of the agents")
    soften(axes)
    note = band_note(len(learners), "agents averaged")
    set_title(figure, "Return of an episode of simple spread, PPO", note)
    shared_legend(figure)
    return figure


def rewards_figure(pairs: Sequence[Mapping[str, FloatArray]]) -> Figure:
    """Draw recovered and ground-truth reward of held-out steps, standardised seed by seed."""
    agents = list(pairs[0])
    figure = new_figure(3.2 * len(agents), 3.6)
    panels = new_panels(figure, 1, len(agents), sharey=True)[0]
    for axes, agent in zip(panels, agents, strict=True):
        true, recovered = np.concatenate([_standardised(own[agent]) for own in pairs], axis=1)
        _cloud(axes, true, recovered)
        set_panel_title(axes, agent, loc="center")
        axes.set_xlabel("ground-truth reward (standardised)")
    panels[0].set_ylabel("recovered reward (standardised)")
    set_title(
        figure,
        "Recovered and ground-truth reward of held-out steps",
        f"{len(pairs)} seeds, each standardised; line: mean recovered at that ground-truth reward",
    )
    return figure


def _standardised(rows: FloatArray) -> FloatArray:
    sd = rows.std(axis=1, keepdims=True)
    return np.asarray((rows - rows.mean(axis=1, keepdims=True)) / np.where(sd > 0, sd, 1))


def _cloud(axes: Axes, true: FloatArray, recovered: FloatArray) -> None:
    every = -(-len(true) // MOST_POINTS)
    limits = (-4.0, 3.0)
    axes.hexbin(
        true[::every],
        recovered[::every],
        gridsize=45,
        extent=(*limits, *limits),
        bins="log",
        cmap="Blues",
        mincnt=1,
        linewidths=0.1,
    )
    edges = np.quantile(true, np.linspace(0, 1, 21))
    place = np.clip(np.searchsorted(edges, true) - 1, 0, 19)
    middles = [
        (true[place == k].mean(), recovered[place == k].mean())
        for k in range(20)
        if np.any(place == k)
    ]
    axes.plot(*np.array(middles).T, color="#D55E00", linewidth=1.6)
    axes.set_xlim(limits)
    axes.set_ylim(limits)
    soften(axes)
