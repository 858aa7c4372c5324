"""Recover rewards from a foreign log of a game that is no product of parts, and score them.

Exact learners play `malfl_env.games.key_and_door`. Their steps are written as a CSV of names, which
`malfl import` reads. `ma-lfl-bellman` recovers the rewards with its default options from this trace
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

from malfl_algos.cli.main import main as malfl
from malfl_algos.learners.ma_spi import MaSpi
from malfl_algos.observers.judging import judge
from malfl_algos.plugins import load_observer
from malfl_algos.scores import calibration, mean_of_rows, pearson
from malfl_algos.trace import LearningTrace
from malfl_env import MarkovGame, TabularEnv
from malfl_env.games import key_and_door

STAGES, EPISODE_LENGTH = 8, 60
DISCOUNT, TEMPERATURE = 0.9, 0.4
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
    trace: LearningTrace, game: MarkovGame, *, discount: float | None, judged: bool
) -> list[dict[str, Any]]:
    """One row per agent: scores over the visited joint states, rule, discount and verdict."""
    observer = load_observer("ma-lfl-bellman", covariance=True)
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
                **{name: found[name].value for name in SCORES},
                "rule": own["rule"],
                "discount": own["discount"],
                "interval": own.get("discount_interval"),
                "verdict": "-" if verdict is None else verdict.agents[agent].word,
            }
        )
    return rows


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
    parser.add_argument("--unjudged", action="store_true", help="make no verdicts")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print a row per seed and agent, and means with 95 % intervals over seeds."""
    arguments = _parser().parse_args(argv)
    rows: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        game = key_and_door(rewards=arguments.rewards, seed=seed).game
        with tempfile.TemporaryDirectory() as folder:
            trace = imported(Path(folder), game, episodes=arguments.episodes, seed=seed)
        begun = perf_counter()
        for row in scored(trace, game, discount=arguments.discount, judged=not arguments.unjudged):
            rows.append({"seed": seed, **row})
            print(", ".join(f"{name} {_words(own)}" for name, own in rows[-1].items()))
        print(f"  recovered and judged in {perf_counter() - begun:.0f} s", flush=True)
    for name in SCORES:
        found = mean_of_rows(rows, name)
        print(f"{name}: mean {_words(found.mean)}, 95 % interval {_words(found.interval)}")
    return 0


def _words(own: Any) -> str:
    if isinstance(own, (list, tuple)):
        return " to ".join(map(_words, own))
    return f"{own:.3f}" if isinstance(own, float) else str(own)


if __name__ == "__main__":
    sys.exit(main())
