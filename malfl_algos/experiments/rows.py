"""The tables of a run (from the files of its units) and of a sweep (from its rows)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.contract import RecoveredRewards
from malfl_algos.experiments.cell import Recovered
from malfl_algos.experiments.config import ExperimentConfig
from malfl_algos.experiments.games import reachable_states
from malfl_algos.experiments.recovered_files import saved_reward_models, saved_verdict
from malfl_algos.experiments.scale import reference_of
from malfl_algos.experiments.scoring import (
    OF_A_RUN,
    TRUTH_ALONE,
    scored_rows,
)
from malfl_algos.ground_truth import GroundTruth
from malfl_algos.scores.agreement import pearson
from malfl_algos.scores.inputs import Reference, with_policies
from malfl_algos.scores.means import grouped, mean_of_rows
from malfl_algos.scores.registry import score_names
from malfl_algos.storage.arrays import read_arrays
from malfl_algos.storage.durable import write_json
from malfl_algos.storage.results import posterior_parts
from malfl_algos.storage.tables import write_table
from malfl_algos.verdict.words import WORDS
from malfl_algos.work.threads import one_blas_thread

__all__ = [
    "Row",
    "Rows",
    "aggregate",
    "summary_rows",
    "verdicts",
    "write_run_tables",
    "write_sweep_tables",
]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Row = Mapping[str, Any]
Rows = Sequence[Row]
Truths = Mapping[str, Mapping[str, FloatArray]]
"""By family and agent id."""


def write_run_tables(
    root: Path, config: ExperimentConfig, *, into: Path | None = None
) -> dict[str, Any]:
    """Write `summary.json`, `cross_correlation.csv` and `trend.csv` of a finished run.

    Args:
        root: the run folder, with the files of all units.
        config: of the run.
        into: write the tables into this folder; None means the run folder.

    Returns:
        The content of `summary.json`: `results`, one row per family, observer, seed and agent, with
        the scores of the registry, and `reasons` for those that are null; `aggregate`, one row per
        family and observer with the mean over seeds and its 95 % interval, agents averaged within a
        seed, and the same per agent; `cross_correlation`, one verdict per observer and agent.
    """
    states = reachable_states(config.markov_game(config.reward_families[0]))
    truths = _truths(root, config)
    crossed = list(_crossed_rows(root, config, truths, states))
    with one_blas_thread():  # sums must not depend on the number of processors
        results = list(_results(root, config, states))
    families, labels = list(truths), [observer.label for observer in config.observers]
    results.sort(key=lambda row: (families.index(row["family"]), labels.index(row["observer"])))
    summary = {
        "n_joint_states_scored": int(states.sum()),
        "results": results,
        "aggregate": aggregate(results),
        "cross_correlation": verdicts(crossed, truths, states),
    }
    observing = ["observing"] if config.seat == "agent" and (config.n_agents or 0) > 2 else []
    plain = score_names(*TRUTH_ALONE)
    names = ["observer", "seed", "recovered_family", "true_family", "agent", *plain, *observing]
    names.append("verdict")
    place = root if into is None else into
    write_table(place / "cross_correlation.csv", crossed, names, numbers=plain)
    if config.trend:
        names = ["family", "observer", "seed", "agent", "n_stages", *plain, *observing, "verdict"]
        write_table(place / "trend.csv", _trend_rows(root, config), names, numbers=plain)
    write_json(place / "summary.json", summary)
    return summary


def aggregate(results: Rows) -> list[dict[str, Any]]:
    """Mean and 95 % interval over seeds for every family and observer.

    Args:
        results: rows with `family, observer, seed, agent` and scores, all with the same columns.

    Returns:
        Rows `family, observer`, per score `{mean, interval, n_seeds, reason}`, `verdict`, the
        number of rewards by word, and `agents` with the same for each agent alone.
    """
    rows = []
    for values, own in grouped(results, ("family", "observer")):
        by_agent = {entry["agent"]: group for entry, group in grouped(own, ("agent",))}
        agents = {agent: _means(by_agent[agent]) for agent in _in_order(own)}
        rows.append({**values, **_means(own), "agents": agents})
    return rows


def _means(rows: Rows) -> dict[str, Any]:
    names = [name for name in score_names(*OF_A_RUN) if name in rows[0]]
    words = Counter(row.get("verdict") for row in rows)
    means = {name: mean_of_rows(rows, name).plain() for name in names}
    return {**means, "verdict": {word: words[word] for word in WORDS}}


def write_sweep_tables(
    root: Path, rows: Rows, *, keys: Sequence[str], log: Callable[[str], None]
) -> list[Path]:
    """Write `table.csv`, `table.parquet` and `summary.csv`.

    Args:
        root: the folder of the sweep.
        rows: with `run`, the keys of the grid, `family, seed, observer, agent`, `observing` where
            each agent observes the others, the scores of a run, and `reasons` for missing scores.
        keys: of the grid, in their order.
        log: called with a line if Parquet cannot be written.

    Returns:
        The files written.
    """
    measures = score_names(*OF_A_RUN)
    observing = ["observing"] * any("observing" in row for row in rows)
    names = ["run", *keys, "family", "seed", "observer", *observing, "agent", *measures]
    names += ["verdict", "reasons"]
    table = [{**row, "reasons": _reasons_text(row["reasons"])} for row in rows]
    written = [root / "table.csv", root / "summary.csv"]
    write_table(written[0], table, names, numbers=measures)
    columns = [*keys, "family", "observer", "measure", "mean", "low", "high", "n_seeds"]
    summary = summary_rows(rows, keys=keys)
    write_table(written[1], summary, columns, numbers=("mean", "low", "high"))
    parquet = root / "table.parquet"
    if write_table(parquet, table, names, numbers=measures):
        return [*written, parquet]
    parquet.unlink(missing_ok=True)  # it may hold other rows, of an earlier call
    log(f'{parquet} needs pyarrow: pip install "malfl-env[data]"; table.csv has the same rows')
    return written


def summary_rows(rows: Rows, *, keys: Sequence[str]) -> list[dict[str, Any]]:
    """Means over seeds with 95 % Student t intervals; agents are averaged within a seed.

    Returns:
        Rows with the keys of the grid, `family, observer, measure` and `mean, low, high, n_seeds`.
        The mean is None if no seed has a value, the interval if fewer than two seeds have one.
    """
    return [
        {**values, "measure": measure, **mean_of_rows(group, measure).columns()}
        for values, group in grouped(rows, (*keys, "family", "observer"))
        for measure in score_names(*OF_A_RUN)
    ]


def _truths(root: Path, config: ExperimentConfig) -> Truths:
    return {
        family: _read_truth(root, config, family, config.seeds[0]).rewards
        for family in config.reward_families
    }


def _read_truth(root: Path, config: ExperimentConfig, family: str, seed: int) -> GroundTruth:
    learner = root / family / f"seed_{seed}" / config.learner.label
    return GroundTruth.load(learner / "ground_truth.npz")


def _crossed_rows(
    root: Path, config: ExperimentConfig, truths: Truths, states: BoolArray
) -> Iterator[dict[str, Any]]:
    """Scores of every recovered reward against the ground truth of every family."""
    for family, observer, seed in product(truths, config.observers, config.seeds):
        recovered = _read_recovered(root / family / f"seed_{seed}" / observer.label)
        unit = {"observer": observer.label, "seed": seed, "recovered_family": family}
        for true_family, truth in truths.items():
            for row in scored_rows(Reference(truth, states), recovered, TRUTH_ALONE):
                yield {**unit, "true_family": true_family, **row}


def _results(root: Path, config: ExperimentConfig, states: BoolArray) -> Iterator[dict[str, Any]]:
    """All scores of every recovered reward against the ground truth of its own family."""
    for family in config.reward_families:
        of_family = reference_of(config, config.markov_game(family), states=states)
        for seed in config.seeds:
            truth = _read_truth(root, config, family, seed)
            of_seed = with_policies(of_family, truth.joint_policies)
            for observer in config.observers:
                recovered = _read_recovered(root / family / f"seed_{seed}" / observer.label)
                for row in scored_rows(of_seed, recovered):
                    yield {"family": family, "observer": observer.label, "seed": seed, **row}


def _read_recovered(folder: Path) -> Recovered:
    """Rewards and posteriors of one unit, by observing agent; "" for an external observer."""
    found = {}
    for path in sorted([*folder.glob("rewards.npz"), *folder.glob("*/rewards.npz")]):
        posterior = path.with_name("posterior.npz")
        arrays = read_arrays(posterior)[0] if posterior.exists() else {}
        observing = "" if path.parent == folder else path.parent.name
        parts = posterior_parts(arrays)
        verdict = saved_verdict(path)
        found[observing] = RecoveredRewards(
            read_arrays(path)[0], saved_reward_models(path), **parts, verdict=verdict
        )
    return found


def _trend_rows(root: Path, config: ExperimentConfig) -> Iterable[dict[str, Any]]:
    for family, observer, seed in product(config.reward_families, config.observers, config.seeds):
        unit = {"family": family, "observer": observer.label, "seed": seed}
        path = root / family / f"seed_{seed}" / observer.label / "trend.json"
        for row in json.loads(path.read_text(encoding="utf-8")):
            yield {**unit, **row}


def verdicts(rows: Rows, truths: Truths, states: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """One verdict per observer and agent.

    Args:
        rows: of the cross-correlation table.
        truths: ground-truth rewards by family and agent id.
        states: bool `(n_states,)`: the joint states to compare.

    Returns:
        Rows `observer, agent` with three more keys. `distinct`: whether the agent's ground-truth
        rewards of any two families differ, that is, have a Pearson r below 1.
        `right_pairing_wins`: whether, for every recovered family, the mean Pearson r over seeds is
        higher with the ground truth of this family than with every ground truth that differs from
        it; null if no two differ, or a value is missing. `means[recovered_family][true_family]`:
        the mean Pearson r over seeds.
    """
    found = []
    observers = dict.fromkeys(row["observer"] for row in rows)
    for observer, agent in product(observers, _in_order(rows)):
        own = [row for row in rows if (row["observer"], row["agent"]) == (observer, agent)]
        means = {a: {b: _mean_pearson(own, a, b) for b in truths} for a in truths}
        differing = _differing({f: truth[agent] for f, truth in truths.items()}, states)
        found.append(
            {
                "observer": observer,
                "agent": agent,
                "distinct": bool(differing),
                "right_pairing_wins": _wins(means, differing),
                "means": means,
            }
        )
    return found


def _in_order(rows: Rows) -> list[str]:
    """The agents of a table in agent order, whatever the order of the rows."""
    return sorted({row["agent"] for row in rows}, key=lambda agent: (len(agent), agent))


def _mean_pearson(rows: Rows, recovered: str, true: str) -> float | None:
    pairs = (recovered, true)
    own = [row for row in rows if (row["recovered_family"], row["true_family"]) == pairs]
    return mean_of_rows(own, "pearson").mean


def _differing(
    truths: Mapping[str, NDArray[np.float64]], states: NDArray[np.bool_]
) -> list[tuple[str, str]]:
    """Pairs of families, in both orders, whose ground-truth rewards have a Pearson r below 1."""
    pairs = []
    for one, other in combinations(truths, 2):
        correlation = pearson(truths[one], truths[other], states=states).value
        if correlation is not None and correlation < 1 - 1e-9:
            pairs += [(one, other), (other, one)]
    return pairs


def _wins(
    means: Mapping[str, Mapping[str, float | None]], differing: Sequence[tuple[str, str]]
) -> bool | None:
    compared = [(means[own][own], means[own][other]) for own, other in differing]
    if not compared or any(value is None for pair in compared for value in pair):
        return None
    return all(
        right > wrong for right, wrong in compared if right is not None and wrong is not None
    )


def _reasons_text(reasons: Mapping[str, str]) -> str | None:
    """Reasons as text: `coverage_1sd, sd_ratio: no posterior covariance is given`."""
    measures: dict[str, list[str]] = {}
    for measure, reason in reasons.items():
        measures.setdefault(reason, []).append(measure)
    parts = [f"{', '.join(names)}: {reason}" for reason, names in measures.items()]
    return "; ".join(parts) or None
