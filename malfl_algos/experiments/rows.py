"""The tables of a run, from the files of its units: `summary.json` and two CSV files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.contract import RecoveredRewards
from malfl_algos.experiments.cell import Recovered
from malfl_algos.experiments.config import ExperimentConfig
from malfl_algos.experiments.parts import reachable_states
from malfl_algos.experiments.scoring import (
    OF_A_RUN,
    TRUTH_ALONE,
    posterior_parts,
    scored_rows,
)
from malfl_algos.ground_truth import GroundTruth
from malfl_algos.scores.agreement import pearson
from malfl_algos.scores.inputs import Reference, reference, with_policies
from malfl_algos.scores.means import grouped, mean_of_rows
from malfl_algos.scores.registry import score_names
from malfl_algos.storage.arrays import read_arrays
from malfl_algos.storage.durable import write_json
from malfl_algos.storage.tables import write_table
from malfl_algos.work.threads import one_blas_thread

__all__ = ["Rows", "aggregate", "verdicts", "write_tables"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Rows = Sequence[Mapping[str, Any]]
Truths = Mapping[str, Mapping[str, FloatArray]]
"""By family and agent id."""


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
        the scores of the registry, and `reasons` for those that are null; `aggregate`, one row per
        family and observer with the mean over seeds and its 95 % interval, agents averaged within a
        seed, and the same per agent; `cross_correlation`, one verdict per observer and agent.
    """
    states = reachable_states(config.markov_game(config.reward_families[0]))
    truths = _truths(root, config)
    crossed = list(_crossed_rows(root, config, truths, states))
    with one_blas_thread():  # sums must not depend on how many processors share them
        results = list(_results(root, config, states))
    families, labels = list(truths), [observer.label for observer in config.observers]
    results.sort(key=lambda row: (families.index(row["family"]), labels.index(row["observer"])))
    summary = {
        "n_joint_states_scored": int(states.sum()),
        "results": results,
        "aggregate": aggregate(results),
        "cross_correlation": verdicts(crossed, truths, states),
    }
    observing = ["observing"] if config.seat == "agent" and config.game.n_agents > 2 else []
    plain = score_names(*TRUTH_ALONE)
    names = ["observer", "seed", "recovered_family", "true_family", "agent", *plain, *observing]
    place = root if into is None else into
    write_table(place / "cross_correlation.csv", crossed, names, numbers=plain)
    if config.trend:
        names = ["family", "observer", "seed", "agent", "n_stages", *plain, *observing]
        write_table(place / "trend.csv", _trend_rows(root, config), names, numbers=plain)
    write_json(place / "summary.json", summary)
    return summary


def aggregate(results: Rows) -> list[dict[str, Any]]:
    """Mean and 95 % interval over seeds for every family and observer.

    Args:
        results: rows with `family, observer, seed, agent` and some of the scores, all alike.

    Returns:
        Rows `family, observer`, per score `{mean, interval, n_seeds, reason}`, and `agents` with
        the same for each agent alone.
    """
    rows = []
    for values, own in grouped(results, ("family", "observer")):
        by_agent = {entry["agent"]: group for entry, group in grouped(own, ("agent",))}
        agents = {agent: _means(by_agent[agent]) for agent in _in_order(own)}
        rows.append({**values, **_means(own), "agents": agents})
    return rows


def _means(rows: Rows) -> dict[str, Any]:
    names = [name for name in score_names(*OF_A_RUN) if name in rows[0]]
    return {name: mean_of_rows(rows, name).plain() for name in names}


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
    """Every recovered reward against the ground-truth rewards of every family."""
    for family, observer, seed in product(truths, config.observers, config.seeds):
        recovered = _read_recovered(root / family / f"seed_{seed}" / observer.label)
        unit = {"observer": observer.label, "seed": seed, "recovered_family": family}
        for true_family, truth in truths.items():
            for row in scored_rows(Reference(truth, states), recovered, TRUTH_ALONE):
                yield {**unit, "true_family": true_family, **row}


def _results(root: Path, config: ExperimentConfig, states: BoolArray) -> Iterator[dict[str, Any]]:
    """All scores of every recovered reward against the ground truth of its own family."""
    for family in config.reward_families:
        of_family = reference(
            config.markov_game(family),
            discount=config.discount,
            temperature=config.temperature,
            states=states,
        )
        for seed in config.seeds:
            truth = _read_truth(root, config, family, seed)
            of_seed = with_policies(of_family, truth.joint_policies)
            for observer in config.observers:
                recovered = _read_recovered(root / family / f"seed_{seed}" / observer.label)
                for row in scored_rows(of_seed, recovered):
                    yield {"family": family, "observer": observer.label, "seed": seed, **row}


def _read_recovered(folder: Path) -> Recovered:
    """Rewards and posteriors of one unit, by observing agent ("" for none)."""
    found = {}
    for path in sorted([*folder.glob("rewards.npz"), *folder.glob("*/rewards.npz")]):
        posterior = path.with_name("posterior.npz")
        arrays = read_arrays(posterior)[0] if posterior.exists() else {}
        observing = "" if path.parent == folder else path.parent.name
        found[observing] = RecoveredRewards(read_arrays(path)[0], **posterior_parts(arrays))
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
        states: bool `(n_states,)`: the joint states that count.

    Returns:
        Rows `observer, agent`; `distinct`: whether correlation can tell any two families' true
        rewards of this agent apart; `right_pairing_wins`: whether the mean Pearson correlation over
        seeds is highest with the own family's truth, for every recovered family and every other
        truth that differs (null where none differs or a value is missing);
        `means[recovered_family][true_family]`.
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
    """The agents of a table in agent order, in which their rows need not stand."""
    return sorted({row["agent"] for row in rows}, key=lambda agent: (len(agent), agent))


def _mean_pearson(rows: Rows, recovered: str, true: str) -> float | None:
    pairs = (recovered, true)
    own = [row for row in rows if (row["recovered_family"], row["true_family"]) == pairs]
    return mean_of_rows(own, "pearson").mean


def _differing(
    truths: Mapping[str, NDArray[np.float64]], states: NDArray[np.bool_]
) -> list[tuple[str, str]]:
    """Pairs of families, both ways round, whose ground-truth rewards do not correlate at 1."""
    pairs = []
    for one, other in combinations(truths, 2):
        likeness = pearson(truths[one], truths[other], states=states).value
        if likeness is not None and likeness < 1 - 1e-9:
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
