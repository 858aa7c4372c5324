"""The content of a run folder as arrays: tables, rewards, policies and visits."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.experiments.config import ExperimentConfig, load_config
from malfl_algos.experiments.games import reachable_states
from malfl_algos.ground_truth import GroundTruth
from malfl_algos.recovered import RecoveredRewards, Source
from malfl_algos.storage.arrays import read_arrays, read_npz
from malfl_algos.storage.origins import RESULT_NAME
from malfl_algos.storage.results import load_result, posterior_parts
from malfl_env.errors import InputError
from malfl_env.rules import GridRules

__all__ = [
    "Run",
    "averages",
    "distinct",
    "on_board",
    "open_run",
    "read_result_of",
    "read_results",
    "read_state_counts",
]

FloatArray = NDArray[np.float64]
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Run:
    """A run folder, the joint states that are scored, and the names in its results.

    `rules` are None for a game without a board; `n_actions` is the largest number of actions of
    an agent.
    """

    folder: Path
    config: ExperimentConfig
    rules: GridRules | None
    states: NDArray[np.bool_]
    results: Rows
    families: Sequence[str]
    observers: Sequence[str]
    seeds: Sequence[str]
    agents: Sequence[str]
    n_actions: int

    @property
    def first_seed(self) -> str:
        """The label of the one seed that a figure shows."""
        if len(self.seeds) == 1:
            return f"seed {self.seeds[0]}"
        return f"seed {self.seeds[0]} (first of {len(self.seeds)})"

    def read_table(self, name: str, columns: Collection[str]) -> Rows:
        """The rows of a table, as text; empty if there is no such table.

        Args:
            name: of the file.
            columns: it must have these beside the scores.

        Raises:
            InputError: a column is missing.
        """
        path = self.folder / name
        if not path.exists():
            return []
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            missing = sorted({*columns, "pearson"}.difference(reader.fieldnames or ()))
            if missing:
                raise InputError(f"{path}: the column {missing[0]!r} is missing")
            return list(reader)

    def true_rewards(self, family: str, seed: str) -> dict[str, FloatArray]:
        """The ground-truth rewards per agent id, in the unit of the recovered ones."""
        unit = 1.0 if self.config.temperature is not None else self.config.learners_temperature
        truth, _ = self.ground_truth(family, seed)
        return {agent: own / unit for agent, own in truth.rewards.items()}

    def ground_truth(self, family: str, seed: str) -> tuple[GroundTruth, Path]:
        """The ground truth of one family and seed, and the learner's folder that contains it.

        Raises:
            InputError: there is no ground truth, or it cannot be read.
        """
        unit = self.folder / family / f"seed_{seed}"
        found = sorted(unit.glob("*/ground_truth.npz"))
        if not found:
            raise InputError(f"{unit}: no learner's folder in it has a ground_truth.npz")
        return GroundTruth.load(found[0]), found[0].parent

    def source(self, family: str, seed: str) -> Source:
        """Names and visits, from the trace; states of a board are the agents' cells."""
        visits = read_state_counts(self.ground_truth(family, seed)[1])
        game = self.config.markov_game(family)
        source = Source(
            agents=game.agents,
            n_actions=game.n_actions,
            steps=tuple(int(own) for own in visits.sum(axis=1)),
            visits=visits.sum(axis=0).astype(np.int64),
            states=game.states,
            actions=game.actions,
            game_given=True,
            discount=self.config.discount,
            temperature=self.config.temperature,
        )
        return source if self.rules is None else on_board(source, self.rules)

    def result(self, family: str, seed: str, observer: str) -> RecoveredRewards | None:
        """A result, with the names of its game; None as in `recovered`."""
        unit = self.folder / family / f"seed_{seed}" / observer
        if not (unit / "rewards.npz").exists():
            return None
        source = replace(self.source(family, seed), observer=observer)
        return replace(read_result_of(unit), source=source)

    def recovered(self, family: str, seed: str, observer: str) -> dict[str, FloatArray]:
        """Recovered rewards per agent id.

        Empty where the observer's folder has no single result: in a game of more than two agents,
        seen from an agent's perspective, every observing agent has its own result.
        """
        path = self.folder / family / f"seed_{seed}" / observer / "rewards.npz"
        return read_arrays(path)[0] if path.exists() else {}


def open_run(folder: Path) -> Run:
    """Read the parts of a run folder that all figures need.

    Raises:
        InputError: `summary.json` or `config.yaml` is missing or damaged.
    """
    results = read_results(folder)
    config = load_config(folder / "config.yaml")
    families = distinct(results, "family")
    game = config.markov_game(families[0])
    return Run(
        folder=folder,
        config=config,
        rules=config.rules(),
        states=reachable_states(game),
        results=results,
        families=families,
        observers=distinct(results, "observer"),
        seeds=distinct(results, "seed"),
        agents=game.agents,
        n_actions=max(game.n_actions),
    )


def read_results(output_dir: Path) -> Rows:
    """The rows of `summary.json`.

    Raises:
        InputError: the file is missing or is not the summary of a run.
    """
    path = output_dir / "summary.json"
    try:
        results = json.loads(path.read_text(encoding="utf-8"))["results"]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; is {output_dir} a finished run folder?") from None
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise InputError(f"{path}: not the summary of a run: {fault!r}") from fault
    if not isinstance(results, list) or not results:
        raise InputError(f"{path}: it has no results to draw")
    return results


def read_result_of(unit: Path) -> RecoveredRewards:
    """A result of a run; runs of malfl 0.1 have no `result.json`."""
    if (unit / RESULT_NAME).exists():
        return load_result(unit)
    path = unit / "posterior.npz"
    posterior = posterior_parts(read_arrays(path)[0] if path.exists() else {})
    return RecoveredRewards(read_arrays(unit / "rewards.npz")[0], sd=posterior["sd"] or None)


def on_board(source: Source, rules: GridRules) -> Source:
    """The source with the agents' cells as names of joint states, if they have none."""
    if source.states is not None:
        return source
    cells = np.unravel_index(np.arange(rules.n_states), (rules.size,) * (2 * rules.n_agents))
    pairs = np.stack(cells, axis=-1).reshape(rules.n_states, -1, 2)
    names = tuple(" ".join(f"({row},{column})" for row, column in own) for own in pairs.tolist())
    return replace(source, states=names)


def distinct(rows: Rows, column: str) -> list[str]:
    """The values of a column as text, each once, in order of appearance."""
    return list(dict.fromkeys(str(row[column]) for row in rows))


def averages(rows: Rows, axes: Mapping[str, Sequence[str]], names: Sequence[str]) -> FloatArray:
    """Scores of a table, as an array over some of its columns.

    Scores are averaged over all other columns. Without `agent` in `axes`, for example, agents are
    averaged within a seed. Scores that are null (JSON) or empty (CSV) are left out of the average.

    Args:
        rows: of a table that has these columns and scores.
        axes: the values of each column, as text, in the order of the result's axes. Rows with other
            values are left out.
        names: of the scores.

    Returns:
        `(*lengths of axes, n_scores)`; NaN where no row has a number.
    """
    places = {column: {v: i for i, v in enumerate(values)} for column, values in axes.items()}
    shape = (*(len(values) for values in axes.values()), len(names))
    total, count = np.zeros(shape), np.zeros(shape)
    for row in rows:
        index = tuple(places[column].get(str(row[column]), -1) for column in axes)
        if -1 in index:
            continue
        for position, name in enumerate(names):
            if row[name] not in (None, ""):
                total[(*index, position)] += float(row[name])
                count[(*index, position)] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def read_state_counts(learner_dir: Path) -> FloatArray:
    """Visits per stage and joint state, `(n_stages, n_states)`.

    Only the counts are unpacked, because a trace may contain millions of transitions beside them.
    """
    path = learner_dir / "trace.npz"
    try:
        counts = read_npz(path, only={"joint_counts"}).get("joint_counts")
    except ValueError as fault:
        raise InputError(f"{path}: not a readable learning trace: {fault}") from fault
    if counts is None or counts.ndim < 3 or counts.dtype != np.int64:
        raise InputError(f"{path}: not a readable learning trace: it has no valid joint_counts")
    visits = counts.sum(axis=tuple(range(2, counts.ndim)))
    return np.asarray(visits, dtype=np.float64)
