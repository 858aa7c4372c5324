"""The pictures of a run, composed from the files of its folder.

Drawing itself is done by free functions of arrays, one module per kind of picture; this one reads,
calls them and writes. Every picture is drawn from the files alone, so that any process can do it,
and only one that does imports Matplotlib.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.experiments.config import ExperimentConfig, load_config
from malfl_algos.experiments.parts import reachable_states
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
from malfl_algos.storage.durable import write_bytes
from malfl_algos.work.pool import in_parallel
from malfl_env.rules import ACTIONS, GridRules

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["write_figures"]

FloatArray = NDArray[np.float64]
Picture = tuple[str, Callable[[], "Figure | None"]]
"""A name, and what draws it: None where there is nothing to draw."""


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


def write_figures(
    output_dir: Path, *, jobs: int | None = 1, skip: Collection[str] = ()
) -> list[Path]:
    """Draw every picture of a finished run into `output_dir/figures`.

    Reads only files of the run folder. A picture whose table is not there (no trend was asked for)
    is left out. The same files give the same bytes.

    Args:
        output_dir: the folder that `malfl reproduce` wrote.
        jobs: worker processes; None: one per processor.
        skip: names of pictures, without `.png`, that are left as they are.

    Returns:
        The files written, each atomically: correlation.png, trend.png, cross_correlation.png, and
        per family learning_<family>.png, policies_<family>.png and rewards_<family>_<observer>.png.

    Raises:
        InputError: where a file that a picture needs is missing or damaged; the message names it.
        ModuleNotFoundError: without matplotlib; the message says how to install it.
    """
    pictures = [p for p in _pictures(_open_run(output_dir)) if p[0] not in skip]
    try:
        drawn = list(in_parallel(partial(_write, output_dir / "figures"), pictures, jobs=jobs))
    except ModuleNotFoundError as fault:
        raise ModuleNotFoundError(
            f"the figures need {fault.name}: pip install 'malfl-env[algos]'", name=fault.name
        ) from fault
    return sorted(path for path in drawn if path is not None)


def _write(folder: Path, picture: Picture) -> Path | None:
    from malfl_algos.report.style import png_bytes

    name, draw = picture
    figure = draw()
    if figure is None:
        return None
    path = folder / f"{name}.png"
    write_bytes(path, png_bytes(figure))
    return path


def _pictures(run: _Run) -> Iterator[Picture]:
    """All pictures, those that take longest first."""
    for family in run.families:
        for observer in run.observers:
            yield f"rewards_{family}_{observer}", partial(_rewards, run, family, observer)
    yield "trend", partial(_trend, run)
    yield "cross_correlation", partial(_cross_correlation, run)
    yield "correlation", partial(_correlation, run)
    for family in run.families:
        yield f"learning_{family}", partial(_learning, run, family)
        yield f"policies_{family}", partial(_policies, run, family)


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


def _correlation(run: _Run) -> Figure:
    from malfl_algos.report.correlation import correlation_figure

    axes = {"family": run.families, "observer": run.observers, "seed": run.seeds}
    table = averages(run.results, axes)
    correlations = {
        family: dict(zip(run.observers, by_observer, strict=True))
        for family, by_observer in zip(run.families, table, strict=True)
    }
    return correlation_figure(correlations, n_seeds=len(run.seeds))


def _trend(run: _Run) -> Figure | None:
    from malfl_algos.report.trend import trend_figure

    rows = read_csv(run.folder / "trend.csv", ("family", "observer", "seed", "n_stages"))
    if not rows:
        return None
    lengths = sorted(distinct(rows, "n_stages"), key=int)
    observers = distinct(rows, "observer")
    axes = {"family": run.families, "observer": observers, "seed": run.seeds, "n_stages": lengths}
    table = averages(rows, axes)
    curves = {
        family: dict(zip(observers, by_observer, strict=True))
        for family, by_observer in zip(run.families, table, strict=True)
    }
    return trend_figure(curves, [int(h) for h in lengths], n_seeds=len(run.seeds))


def _cross_correlation(run: _Run) -> Figure | None:
    from malfl_algos.report.cross_correlation import cross_correlation_figure, equal_truths

    rows = read_csv(
        run.folder / "cross_correlation.csv",
        ("observer", "seed", "agent", "recovered_family", "true_family"),
    )
    if not rows:
        return None
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
    return cross_correlation_figure(
        matrices, run.families, equal_truths=equal, n_seeds=len(distinct(rows, "seed"))
    )


def _learning(run: _Run, family: str) -> Figure:
    from malfl_algos.report.learning import learning_figure

    curves = [_learning_curves(run, family, seed) for seed in run.seeds]
    returns, entropies = (np.stack(part) for part in zip(*curves, strict=True))
    title = f"Learning, {family}: return and randomness by stage"
    return learning_figure(returns, entropies, n_actions=len(ACTIONS), title=title)


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


def _policies(run: _Run, family: str) -> Figure:
    from malfl_algos.report.policies import policy_figure

    truth, _ = read_ground_truth(run.folder, family, run.seeds[0])
    policies = [truth.joint_policies[agent] for agent in run.agents]
    n_stages = len(policies[0])
    stages = sorted({0, n_stages // 2, n_stages - 1})
    title = f"Policies played, {family}: {_first_seed(run)}"
    return policy_figure(policies, rules=run.rules, stages=stages, title=title)


def _rewards(run: _Run, family: str, observer: str) -> Figure | None:
    from malfl_algos.report.reward_maps import reward_figure

    seed = run.seeds[0]
    recovered = read_recovered(run.folder, family, seed, observer)
    if not recovered:
        return None
    truth, _ = read_ground_truth(run.folder, family, seed)
    axes = {"family": [family], "observer": [observer], "seed": [seed], "agent": run.agents}
    scores = averages(run.results, axes)[0, 0, 0]
    return reward_figure(
        [truth.rewards[agent] for agent in run.agents],
        [recovered[agent] for agent in run.agents],
        rules=run.rules,
        states=run.states,
        scores=[(pearson, spearman) for pearson, spearman in scores],
        title=f"{observer}, {family}: {_first_seed(run)}",
    )
