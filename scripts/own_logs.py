"""Recover rewards from a foreign log of a game that is no product of parts, and score them.

Exact learners play `malfl_env.games.key_and_door`. Their steps are written as a CSV of names, which
`malfl import` reads. An observer recovers the rewards with its default options from this trace
alone: neither dynamics nor temperature are given. `python scripts/own_logs.py --seeds 0 1 2`.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.cli.main import main as malfl
from malfl_algos.learners.ma_spi import MaSpi
from malfl_algos.observers.judging import judge
from malfl_algos.plugins import load_observer
from malfl_algos.scores import calibration, mean_of_rows, pearson
from malfl_algos.scores.agreement import mean_removed_sd
from malfl_algos.soft import log_soft_improvement, soft_evaluation
from malfl_algos.trace import LearningTrace
from malfl_algos.trace.matching import in_numbering_of
from malfl_env import MarkovGame, TabularEnv
from malfl_env.games import key_and_door

FloatArray = NDArray[np.float64]

STAGES, EPISODE_LENGTH = 8, 60
DISCOUNT, TEMPERATURE = 0.9, 0.4
STEP = 1e-5
"""Of finite differences."""
STATE = ("ann_row", "ann_column", "bob_row", "bob_column", "door")
SCORES = ("pearson", "coverage_2sd", "sd_ratio")


def log_rows(game: MarkovGame, *, episodes: int, seed: int) -> Iterator[Sequence[Any]]:
    """The rows of the log, header first; the last row of an episode has no actions."""
    yield ["episode", "step", *STATE, "ann", "bob"]
    learner = MaSpi(
        discount=DISCOUNT,
        temperature=TEMPERATURE,
        evaluation="exact",
        episodes=episodes,
        episode_length=EPISODE_LENGTH,
        keep_transitions=True,
    )
    rng = np.random.default_rng([seed, 1])
    assert game.states is not None
    assert game.actions is not None
    labels: Any = game.states
    episode = step = 0
    for learned in learner.learn(TabularEnv(game), n_stages=STAGES, rng=rng):
        steps = learned.observed.transitions
        assert steps is not None
        assert steps.states is not None
        assert steps.next_states is not None
        arrays = (steps.states, steps.joint_actions, steps.next_states, steps.episode_ends)
        for state, moves, after, ends in zip(*map(np.ndarray.tolist, arrays), strict=True):
            names = [own[move] for own, move in zip(game.actions, moves, strict=True)]
            yield [episode, step, *labels[state], *names]
            step += 1
            if ends:
                yield [episode, step, *labels[after], "", ""]
                episode, step = episode + 1, 0


def imported(folder: Path, game: MarkovGame, *, episodes: int, seed: int) -> LearningTrace:
    """The trace that `malfl import` makes of the log."""
    log, trace = folder / "log.csv", folder / "trace.npz"
    with log.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows(
            log_rows(game, episodes=episodes, seed=seed)
        )
    words = ["import", log, "--output", trace, "--state", *STATE, "--actions", "ann=ann", "bob=bob"]
    words += ["--episode", "episode", "--step", "step", "--episodes-per-stage", episodes]
    if malfl(list(map(str, words))) != 0:
        raise RuntimeError("malfl import rejected the log")
    return LearningTrace.load(trace)


def scored(
    trace: LearningTrace,
    game: MarkovGame,
    *,
    discount: float | None,
    prior: str,
    judged: bool,
    name: str = "ma-lfl-bellman",
) -> list[dict[str, Any]]:
    """One row per agent: scores over the visited joint states, rule, discount and verdict."""
    observer = load_observer(name, covariance=True, prior=prior)
    given: dict[str, Any] = {"game": None, "discount": discount, "temperature": None}
    result = observer.recover(trace, **given)
    verdict = judge(result, trace, **given, observer=observer) if judged else None
    place = {state: number for number, state in enumerate(game.states or ())}
    numbers = np.array([place[state] for state in trace.states or ()])
    assert result.visited is not None
    assert result.covariance is not None
    rows = []
    for index, agent in enumerate(result.agents):
        truth = game.reward(index)[numbers] / TEMPERATURE
        reward, own = result.rewards[agent], result.diagnostics[agent]
        found = calibration(reward, truth, result.covariance[agent], states=result.visited)
        found["pearson"] = pearson(reward, truth, states=result.visited)
        rows.append(
            {
                "agent": agent,
                **{score: found[score].value for score in SCORES},
                "rule": own["rule"],
                "discount": own["discount"],
                "interval": own.get("discount_interval"),
                "verdict": "-" if verdict is None else verdict.agents[agent].word,
            }
        )
    return rows


def bounds(trace: LearningTrace, game: MarkovGame) -> list[float]:
    """Per agent the Pearson r that no estimator can be expected to exceed without more knowledge.

    It is sqrt(1 - v / s^2): s^2 is the variance of the agent's rewards, v the mean variance of the
    mean-removed reward under the Laplace posterior at the ground truth. Its information is that of
    all counts under the learners' own policies, which the rewards of all agents determine from the
    first stage on, and of a prior of independent rewards with the variances s^2.
    """
    rewards = np.array([game.reward(index) for index in range(game.n_agents)]) / TEMPERATURE
    logs = _history(game, rewards)
    slopes = np.array(
        [
            (_history(game, rewards + STEP * one.reshape(rewards.shape)) - logs) / STEP
            for one in np.eye(rewards.size)
        ]
    )
    counts = np.stack([_counts(trace, game, index) for index in range(game.n_agents)], axis=1)
    chances = np.exp(logs[1:])
    slopes = slopes[:, 1:] - (slopes[:, 1:] * chances).sum(axis=-1, keepdims=True)
    root = np.sqrt(counts[1:].sum(axis=-1, keepdims=True) * chances)
    design = (slopes * root).reshape(rewards.size, -1)
    variance = rewards.var(axis=1)
    prior = np.repeat(1 / variance, game.n_states)
    covariance = np.linalg.inv(design @ design.T + np.diag(prior))
    found = []
    for index, own in enumerate(variance):
        part = slice(index * game.n_states, (index + 1) * game.n_states)
        left = np.mean(mean_removed_sd(covariance[part, part]) ** 2)
        found.append(float(np.sqrt(max(1 - left / own, 0.0))))
    return found


def _history(game: MarkovGame, rewards: FloatArray) -> FloatArray:
    """Log policies of every stage, `(n_stages, n_agents, n_states, n_actions)`, temperature 1."""
    own = game.with_rewards(list(rewards))
    logs = [np.full((game.n_states, n), -np.log(n)) for n in game.n_actions]
    found = [logs]
    for _ in range(STAGES - 1):
        joint = [np.exp(one) for one in logs]
        q = [
            soft_evaluation(own, joint, index, discount=DISCOUNT, temperature=1.0)[0]
            for index in range(game.n_agents)
        ]
        logs = [log_soft_improvement(one, temperature=1.0) for one in q]
        found.append(logs)
    return np.array(found)


def _counts(trace: LearningTrace, game: MarkovGame, index: int) -> FloatArray:
    """An agent's counts in the numbering of the game, `(n_stages, n_states, n_actions)`."""
    whole = in_numbering_of(game, trace, name="the log")
    others = tuple(1 + other for other in range(game.n_agents) if other != index)
    return np.array([stage.counts.sum(axis=others) for stage in whole.stages], dtype=float)


def _number_or_null(text: str) -> float | None:
    return None if text == "null" else float(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="own_logs.py", description="Score rewards recovered from an imported log."
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="K")
    parser.add_argument("--rewards", choices=("natural", "random"), default="natural")
    parser.add_argument("--episodes", type=int, default=1500, help="episodes per stage")
    parser.add_argument(
        "--discount", type=_number_or_null, default=DISCOUNT, help="null: not told (default: 0.9)"
    )
    parser.add_argument(
        "--observer", choices=("ma-lfl-bellman", "ma-lfl-history"), default="ma-lfl-bellman"
    )
    parser.add_argument("--prior", choices=("auto", "smooth", "iid"), default="auto")
    parser.add_argument("--unjudged", action="store_true", help="make no verdicts")
    parser.add_argument(
        "--bounds", action="store_true", help="print what can be expected at most, and recover not"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print a row per seed and agent, and means with 95 % intervals over seeds."""
    arguments = _parser().parse_args(argv)
    rows: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        game = key_and_door(rewards=arguments.rewards, seed=seed).game
        with tempfile.TemporaryDirectory() as folder:
            trace = imported(Path(folder), game, episodes=arguments.episodes, seed=seed)
        if arguments.bounds:
            print(
                f"seed {seed}, at most: {', '.join(map(_words, bounds(trace, game)))}", flush=True
            )
            continue
        begun = perf_counter()
        found = scored(
            trace,
            game,
            discount=arguments.discount,
            prior=arguments.prior,
            name=arguments.observer,
            judged=not arguments.unjudged,
        )
        for row in found:
            rows.append({"seed": seed, **row})
            print(", ".join(f"{name} {_words(own)}" for name, own in rows[-1].items()))
        print(f"  recovered and judged in {perf_counter() - begun:.0f} s", flush=True)
    for name in SCORES if rows else ():
        over = mean_of_rows(rows, name)
        print(f"{name}: mean {_words(over.mean)}, 95 % interval {_words(over.interval)}")
    return 0


def _words(own: Any) -> str:
    if isinstance(own, (list, tuple)):
        return " to ".join(map(_words, own))
    return f"{own:.3f}" if isinstance(own, float) else str(own)


if __name__ == "__main__":
    sys.exit(main())
