"""The tables of a run, from the files of its units: `summary.json` and two CSV files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from malfl_algos.experiments.config import ExperimentConfig
from malfl_algos.experiments.cross_correlation import in_order, verdicts
from malfl_algos.experiments.parts import reachable_states
from malfl_algos.experiments.recovery import score_rows
from malfl_algos.experiments.scoring import (
    TRUTH_MEASURES,
    Judge,
    columns,
    judge,
    truth_scores,
    with_policies,
)
from malfl_algos.ground_truth import GroundTruth
from malfl_algos.scores.correlation import mean_interval
from malfl_algos.storage.arrays import read_arrays
from malfl_algos.storage.durable import write_bytes, write_json

__all__ = ["Rows", "aggregate", "write_tables"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Rows = Sequence[Mapping[str, Any]]
Truths = Mapping[str, Mapping[str, FloatArray]]
"""By family and agent id."""

MEASURES = ("pearson", "spearman")


def write_tables(
    root: Path, config: ExperimentConfig, *, into: Path | None = None
) -> dict[str, Any]:
    """Write the tables of a run all of whose units are done.

    Args:
        root: the run folder.
        config: of the run.
        into: another folder for them.

    Returns:
        The content of `summary.json`: `results`, one row per family, observer, seed and agent, with
        the correlations, the scores in `TRUTH_MEASURES`, and `reasons` for those that are null;
        `aggregate`, one row per family and observer with the mean over seeds and its 95 % interval,
        agents averaged within a seed, and the same per agent; `cross_correlation`, one verdict per
        observer and agent.
    """
    states = reachable_states(config.markov_game(config.reward_families[0]))
    truths = _truths(root, config)
    crossed = list(_crossed_rows(root, config, truths, states))
    with threadpool_limits(1):  # sums must not depend on how many processors share them
        further = _further_scores(root, config, states)
    results = [
        {
            "family": row["true_family"],
            **{k: row[k] for k in row if not k.endswith("_family")},
            **further[_key(row["true_family"], row)],
        }
        for row in crossed
        if row["true_family"] == row["recovered_family"]
    ]
    summary = {
        "n_joint_states_scored": int(states.sum()),
        "results": results,
        "aggregate": aggregate(results),
        "cross_correlation": verdicts(crossed, truths, states),
    }
    observing = ["observing"] if config.seat == "agent" and config.game.n_agents > 2 else []
    names = ["observer", "seed", "recovered_family", "true_family", "agent", *MEASURES, *observing]
    place = root if into is None else into
    _write_csv(place / "cross_correlation.csv", names, crossed)
    if config.trend:
        names = ["family", "observer", "seed", "agent", "n_stages", *MEASURES, *observing]
        _write_csv(place / "trend.csv", names, _trend_rows(root, config))
    write_json(place / "summary.json", summary)
    return summary


def aggregate(results: Rows) -> list[dict[str, Any]]:
    """Mean and 95 % interval over seeds for every family and observer.

    Args:
        results: rows with `family, observer, seed, agent` and some of the measures, all alike.

    Returns:
        Rows `family, observer`, per measure `{mean, interval, n_seeds, reason}`, and `agents` with
        the same for each agent alone.
    """
    rows = []
    for family, observer in _distinct(results, "family", "observer"):
        own = _where(results, family=family, observer=observer)
        agents = {agent: _means(_where(own, agent=agent)) for agent in in_order(own)}
        rows.append({"family": family, "observer": observer, **_means(own), "agents": agents})
    return rows


def _means(rows: Rows) -> dict[str, Any]:
    seeds = [seed for (seed,) in _distinct(rows, "seed")]
    means = {}
    for measure in (m for m in (*MEASURES, *TRUTH_MEASURES) if m in rows[0]):
        by_seed = {seed: [row[measure] for row in _where(rows, seed=seed)] for seed in seeds}
        found = mean_interval(by_seed)
        means[measure] = {
            "mean": found.mean,
            "interval": None if found.interval is None else list(found.interval),
            "n_seeds": found.n_seeds,
            "reason": found.reason,
        }
    return means


def _distinct(rows: Rows, *columns: str) -> list[tuple[Any, ...]]:
    return list(dict.fromkeys(tuple(row[column] for column in columns) for row in rows))


def _where(rows: Rows, **values: Any) -> Rows:
    return [row for row in rows if all(row[column] == value for column, value in values.items())]


def _truths(root: Path, config: ExperimentConfig) -> Truths:
    return {
        family: GroundTruth.load(
            root / family / f"seed_{config.seeds[0]}" / config.learner.label / "ground_truth.npz"
        ).rewards
        for family in config.reward_families
    }


def _crossed_rows(
    root: Path, config: ExperimentConfig, truths: Truths, states: BoolArray
) -> Iterable[dict[str, Any]]:
    """Every recovered reward against the true rewards of every family."""
    for family, observer, seed in product(truths, config.observers, config.seeds):
        recovered = {
            observing: read_arrays(path)[0]
            for observing, path in _rewards_files(root / family / f"seed_{seed}" / observer.label)
        }
        for true_family, truth in truths.items():
            for row in score_rows(recovered, truth, states):
                yield {
                    "observer": observer.label,
                    "seed": seed,
                    "recovered_family": family,
                    "true_family": true_family,
                    **row,
                }


def _further_scores(
    root: Path, config: ExperimentConfig, states: BoolArray
) -> dict[tuple[Any, ...], dict[str, Any]]:
    """What there is beside correlation against the family's own truth, by `_key`."""
    found = {}
    for family in config.reward_families:
        game = config.markov_game(family)
        of_family = judge(
            game, discount=config.discount, temperature=config.temperature, states=states
        )
        for seed in config.seeds:
            folder = root / family / f"seed_{seed}"
            truth = GroundTruth.load(folder / config.learner.label / "ground_truth.npz")
            of_seed = with_policies(of_family, truth.joint_policies)
            for observer in config.observers:
                unit = {"observer": observer.label, "seed": seed}
                for row in _judged(folder / observer.label, of_seed):
                    found[_key(family, {**unit, **row})] = row["scores"]
    return found


def _judged(folder: Path, base: Judge) -> Iterable[dict[str, Any]]:
    """Rows `observing, agent, scores` of one unit."""
    for observing, path in _rewards_files(folder):
        posterior = path.with_name("posterior.npz")
        further = read_arrays(posterior)[0] if posterior.exists() else {}
        for agent, scores in truth_scores(base, read_arrays(path)[0], further).items():
            yield {"observing": observing, "agent": agent, "scores": columns(scores)}


def _key(family: str, row: Mapping[str, Any]) -> tuple[Any, ...]:
    return family, row["observer"], row["seed"], row.get("observing", ""), row["agent"]


def _rewards_files(folder: Path) -> list[tuple[str, Path]]:
    """The files of an observer's rewards, by observing agent ("" for none)."""
    paths = sorted([*folder.glob("rewards.npz"), *folder.glob("*/rewards.npz")])
    return [("" if path.parent == folder else path.parent.name, path) for path in paths]


def _trend_rows(root: Path, config: ExperimentConfig) -> Iterable[dict[str, Any]]:
    for family, observer, seed in product(config.reward_families, config.observers, config.seeds):
        unit = {"family": family, "observer": observer.label, "seed": seed}
        path = root / family / f"seed_{seed}" / observer.label / "trend.json"
        for row in json.loads(path.read_text(encoding="utf-8")):
            yield {**unit, **row}


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Numbers in full precision; nothing where there is none."""
    text = io.StringIO()
    table = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_bytes(path, text.getvalue().encode())
