"""Table and figures of the study of continuous games, from its finished parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from continuous_observers import OBSERVERS, OURS
from continuous_seed import TRUE, read_part
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

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
from malfl_algos.verdict.words import WORDS
from malfl_env.errors import InputError

__all__ = ["write_report"]

FloatArray = NDArray[np.float64]
Parts = Mapping[int, Mapping[str, Any]]
"""Per seed, the results of one part."""
Roles = Mapping[str, Sequence[str]]

MOST_POINTS = 20_000
ROLES: Mapping[str, Roles] = {
    "simple_spread": {"agents": ("agent_0", "agent_1", "agent_2")},
    "simple_adversary": {"adversary": ("adversary_0",), "good agents": ("agent_0", "agent_1")},
}
"""Agents with the same reward; they are averaged within a seed."""


def write_report(root: Path, games: Sequence[str]) -> str:
    """Write `table.md`, and per game `returns.png` and `rewards.png`; return the tables.

    Raises:
        InputError: if no seed has finished learning.
    """
    recovered = [
        "| game, agents | observer | Pearson r | ours less it | halves | verdicts | seeds |"
    ]
    recovered.append("|---|---|---|---|---|---|---|")
    returns = ["| game, agents | return of an episode | mean | 95 % interval | seeds |"]
    returns.append("|---|---|---|---|---|")
    for game in games:
        folder = root / game
        seeds = {int(own.name.removeprefix("seed_")): own for own in sorted(folder.glob("seed_*"))}
        learners = _parts(seeds, "learners")
        if not learners:
            raise InputError(f"no finished seed of a study in {folder}")
        for role, agents in ROLES[game].items():
            title = f"{game}, {role}"
            scores = {name: _parts(seeds, f"{name}/scores") for name in OBSERVERS}
            recovered += [
                f"| {title} | {name} | {_scores(own, scores[OURS], agents)} |"
                for name, own in scores.items()
            ]
            returns += [f"| {title} | {row} |" for row in _returns(seeds, learners, agents)]
        _draw(folder, seeds, learners)
    table = "\n".join([*recovered, "", *returns])
    write_bytes(root / "table.md", f"{table}\n".encode())
    return table


def _parts(seeds: Mapping[int, Path], name: str) -> Parts:
    found = {seed: read_part(path, name) for seed, path in seeds.items()}
    return {seed: content for seed, content in found.items() if content is not None}


def _scores(scores: Parts, ours: Parts, agents: Sequence[str]) -> str:
    """Return the cells of an observer: correlation, ours less it, halves, verdicts, seeds."""
    pearson, halves = (
        {seed: [read(own, agent) for agent in agents] for seed, own in scores.items()}
        for read in (
            lambda own, agent: own["correlation"][agent]["pearson"],
            lambda own, agent: own["halves"][agent],
        )
    )
    less = {
        seed: [
            ours[seed]["correlation"][agent]["pearson"] - theirs
            for agent, theirs in zip(agents, own, strict=True)
        ]
        for seed, own in pearson.items()
        if seed in ours and scores is not ours
    }
    cells = [_cell(values) for values in (pearson, less, halves)]
    words = [
        own["verdicts"][agent]["word"]
        for own in scores.values()
        for agent in agents
        if own["verdicts"]
    ]
    told = ", ".join(f"{word}: {words.count(word)}" for word in WORDS if word in words)
    return f"{' | '.join(cells)} | {told or '-'} | {len(scores)}"


def _cell(values: Mapping[int, Any]) -> str:
    """Return mean and interval over seeds."""
    found = mean_interval(values)
    ends = "" if found.interval is None else " ({:.2f} to {:.2f})".format(*found.interval)
    return "-" if found.mean is None else f"{found.mean:.2f}{ends}"


def _returns(seeds: Mapping[int, Path], learners: Parts, agents: Sequence[str]) -> list[str]:
    true, fresh = _parts(seeds, TRUE), _parts(seeds, f"{OURS}/fresh")
    last = {
        name: {seed: _mean(own["returns"][-1], agents) for seed, own in parts.items()}
        for name, parts in (("learners", learners), ("true", true), ("fresh", fresh))
    }
    rows = {
        "uniform play": {
            seed: _mean(own["uniform_return"], agents) for seed, own in learners.items()
        },
        "learners, last stage": last["learners"],
        "retrained on the ground-truth reward": last["true"],
        f"retrained on the reward of {OURS}": last["fresh"],
        "recovered less ground truth, paired": {
            seed: own - last["true"][seed]
            for seed, own in last["fresh"].items()
            if seed in last["true"]
        },
    }
    return [f"{title} | {_interval(values)}" for title, values in rows.items()]


def _mean(returns: Mapping[str, float], agents: Sequence[str]) -> float:
    return float(np.mean([returns[agent] for agent in agents]))


def _interval(values: Mapping[int, float]) -> str:
    found = mean_interval({seed: [value] for seed, value in values.items()})
    if found.mean is None:
        return "- | - | 0"
    ends = "-" if found.interval is None else "{:.2f} to {:.2f}".format(*found.interval)
    return f"{found.mean:.2f} | {ends} | {found.n_seeds}"


def _draw(folder: Path, seeds: Mapping[int, Path], learners: Parts) -> None:
    curves = {
        "learners, ground-truth reward": learners,
        "retrained, ground truth": _parts(seeds, TRUE),
        "retrained, recovered reward": _parts(seeds, f"{OURS}/fresh"),
    }
    figures = {"returns.png": returns_figure(folder.name, curves)}
    pairs = [path / OURS / "pairs.npz" for path in seeds.values()]
    found = [read_arrays(path)[0] for path in pairs if path.exists()]
    if found:
        figures["rewards.png"] = rewards_figure(found)
    for name, figure in figures.items():
        write_bytes(folder / name, png_bytes(figure))


def returns_figure(game: str, curves: Mapping[str, Parts]) -> Figure:
    """Draw the ground-truth return of an episode in each stage, per role."""
    roles = ROLES[game]
    figure = new_figure(4.6 * len(roles) + 1.6, 4.2)
    panels = new_panels(figure, 1, len(roles))[0]
    curves = {label: parts for label, parts in curves.items() if parts}
    for axes, (role, agents) in zip(panels, roles.items(), strict=True):
        longest = 1
        for index, (label, parts) in enumerate(curves.items()):
            values = np.array(
                [[_mean(own, agents) for own in content["returns"]] for content in parts.values()]
            )
            positions = list(range(values.shape[1]))
            longest = max(longest, len(positions))
            draw_series(axes, positions, values, look(index), label=label, n_series=len(curves))
        stage_axis(axes, list(range(longest)), "stage")
        set_panel_title(axes, role, loc="center")
        soften(axes)
    panels[0].set_ylabel("ground-truth return of an episode")
    n_seeds = max(len(parts) for parts in curves.values())
    set_title(figure, f"Return of an episode of {game}, PPO", band_note(n_seeds, "agents averaged"))
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
