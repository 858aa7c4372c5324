"""The pictures of a run, composed from the files of its folder.

Drawing itself is done by free functions of arrays, one module per kind of picture; this one reads,
calls them and writes. Matplotlib is imported when the first picture is drawn, not before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.experiments.config import ExperimentConfig, load_config
from malfl_algos.experiments.parts import reachable_states
from malfl_algos.files import write_bytes
from malfl_algos.report.run_files import (
    averages,
    distinct,
    read_csv,
    read_ground_truth,
    read_recovered,
    read_results,
    read_state_counts,
)
from malfl_algos.soft import entropy, soft_evaluation
from malfl_env.rules import ACTIONS, GridRules

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["write_figures"]

FloatArray = NDArray[np.float64]
NamedFigures = Iterator[tuple[str, "Figure"]]


@dataclass(frozen=True)
class _Run:
    """A run folder, the joint states that are scored, and the names that its results have."""

    folder: Path
    config: ExperimentConfig
    rules: GridRules
    states: NDArray[np.bool_]
    results: Sequence[Any]
    families: Sequence[str]
    observers: Sequence[str]
    seeds: Sequence[str]
    agents: Sequence[str]


def write_figures(output_dir: Path) -> list[Path]:
    """Draw every picture of a finished run into `output_dir/figures`.

    Reads only files of the run folder. A picture whose table is not there (no trend was asked for)
    is left out. The same files give the same bytes.

    Args:
        output_dir: the folder that `malfl reproduce` wrote.

    Returns:
        The files written, each atomically: correlation.png, trend.png, cross_correlation.png, and
        per family learning_<family>.png, policies_<family>.png and rewards_<family>_<observer>.png.

    Raises:
        ValueError: where a file that a picture needs is missing or damaged; the message names it.
        ModuleNotFoundError: without matplotlib; the message says how to install it.
    """
    try:
        from malfl_algos.report.style import png_bytes
    except ModuleNotFoundError as fault:
        raise ModuleNotFoundError(
            f"the figures need {fault.name}: pip install 'malfl-env[algos]'", name=fault.name
        ) from fault
    run = _open_run(output_dir)
    written = []
    for draw in _DRAWERS:
        for name, figure in draw(run):
            path = output_dir / "figures" / f"{name}.png"
            write_bytes(path, png_bytes(figure))
            written.append(path)
    return written


def _open_run(folder: Path) -> _Run:
    results = read_results(folder)
    config = load_config(folder / "config.yaml")
    families = distinct(results, "family")
    game = config.markov_game(families[0])
    return _Run(
        folder=folder,
        config=config,
        rules=config.rules(),
        states=reachable_states(game),
        results=results,
        families=families,
        observers=distinct(results, "observer"),
        seeds=distinct(results, "seed"),
        agents=game.agents,
    )


def _correlation(run: _Run) -> NamedFigures:
    from malfl_algos.report.correlation import correlation_figure

    axes = {"family": run.families, "observer": run.observers, "seed": run.seeds}
    table = averages(run.results, axes)
    correlations = {
        family: dict(zip(run.observers, by_observer, strict=True))
        for family, by_observer in zip(run.families, table, strict=True)
    }
    yield "correlation", correlation_figure(correlations, n_seeds=len(run.seeds))


def _trend(run: _Run) -> NamedFigures:
    from malfl_algos.report.trend import trend_figure

    rows = read_csv(run.folder / "trend.csv", ("family", "observer", "seed", "n_stages"))
    if not rows:
        return
    lengths = sorted(distinct(rows, "n_stages"), key=int)
    observers = distinct(rows, "observer")
    axes = {"family": run.families, "observer": observers, "seed": run.seeds, "n_stages": lengths}
    table = averages(rows, axes)
    curves = {
        family: dict(zip(observers, by_observer, strict=True))
        for family, by_observer in zip(run.families, table, strict=True)
    }
    yield "trend", trend_figure(curves, [int(h) for h in lengths], n_seeds=len(run.seeds))


def _cross_correlation(run: _Run) -> NamedFigures:
    from malfl_algos.report.cross_correlation import cross_correlation_figure, equal_truths

    rows = read_csv(
        run.folder / "cross_correlation.csv",
        ("observer", "seed", "agent", "recovered_family", "true_family"),
    )
    if not rows:
        return
    observers = distinct(rows, "observer")
    axes = {
        "observer": observers,
        "agent": run.agents,
        "recovered_family": run.families,
        "true_family": run.families,
    }
    matrices = dict(zip(observers, averages(rows, axes)[..., 0], strict=True))
    truths = [
        read_ground_truth(run.folder, family, run.seeds[0])[0].rewards for family in run.families
    ]
    equal = equal_truths(
        [[truth[agent] for truth in truths] for agent in run.agents], states=run.states
    )
    yield (
        "cross_correlation",
        cross_correlation_figure(
            matrices, run.families, equal_truths=equal, n_seeds=len(distinct(rows, "seed"))
        ),
    )


def _learning(run: _Run) -> NamedFigures:
    from malfl_algos.report.learning import learning_figure

    for family in run.families:
        curves = [_learning_curves(run, family, seed) for seed in run.seeds]
        returns, entropies = (np.stack(part) for part in zip(*curves, strict=True))
        title = f"Learning, {family}: return and randomness by stage"
        yield (
            f"learning_{family}",
            learning_figure(returns, entropies, n_actions=len(ACTIONS), title=title),
        )


def _learning_curves(run: _Run, family: str, seed: str) -> tuple[FloatArray, FloatArray]:
    """Return and visit-weighted entropy of one seed, each `(n_agents, n_stages)`."""
    truth, learner_dir = read_ground_truth(run.folder, family, seed)
    visits = read_state_counts(learner_dir)
    weights = visits / visits.sum(axis=1, keepdims=True)
    game = run.config.markov_game(family)
    policies = [truth.joint_policies[agent] for agent in run.agents]
    entropies = np.stack([(entropy(policy) * weights).sum(axis=1) for policy in policies])
    returns = np.empty_like(entropies)
    for agent_index, stage in np.ndindex(returns.shape):
        joint_policy = [policy[stage] for policy in policies]
        _, value = soft_evaluation(
            game, joint_policy, agent_index, discount=run.config.discount, temperature=0.0
        )
        returns[agent_index, stage] = value[game.start]
    return returns, entropies


def _first_seed(run: _Run) -> str:
    """What to call the one seed that a picture shows."""
    if len(run.seeds) == 1:
        return f"seed {run.seeds[0]}"
    return f"seed {run.seeds[0]}, the first of {len(run.seeds)}"


def _policies(run: _Run) -> NamedFigures:
    from malfl_algos.report.policies import policy_figure

    for family in run.families:
        truth, _ = read_ground_truth(run.folder, family, run.seeds[0])
        policies = [truth.joint_policies[agent] for agent in run.agents]
        n_stages = len(policies[0])
        stages = sorted({0, n_stages // 2, n_stages - 1})
        title = f"Policies played, {family}: {_first_seed(run)}"
        yield (
            f"policies_{family}",
            policy_figure(policies, rules=run.rules, stages=stages, title=title),
        )


def _rewards(run: _Run) -> NamedFigures:
    from malfl_algos.report.reward_maps import reward_figure

    seed = run.seeds[0]
    axes = {"family": run.families, "observer": run.observers, "agent": run.agents}
    which = _first_seed(run)
    scores = averages([row for row in run.results if str(row["seed"]) == seed], axes)
    for f, family in enumerate(run.families):
        truth, _ = read_ground_truth(run.folder, family, seed)
        for o, observer in enumerate(run.observers):
            recovered = read_recovered(run.folder, family, seed, observer)
            if not recovered:
                continue
            figure = reward_figure(
                [truth.rewards[agent] for agent in run.agents],
                [recovered[agent] for agent in run.agents],
                rules=run.rules,
                states=run.states,
                scores=[(pearson, spearman) for pearson, spearman in scores[f, o]],
                title=f"{observer}, {family}: {which}",
            )
            yield f"rewards_{family}_{observer}", figure


_DRAWERS: tuple[Callable[[_Run], NamedFigures], ...] = (
    _correlation,
    _trend,
    _cross_correlation,
    _learning,
    _policies,
    _rewards,
)
