"""The lines `td` and `protocol`: the learners, and the paper as a whole."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from benchmark_lines import DISCOUNT, STEP_SIZE, TEMPERATURE, Contest
from numpy.typing import NDArray

from malfl_env import MarkovGame, grid_world_v0, markov_game

FloatArray = NDArray[np.float64]
Draw = Callable[[FloatArray], int]
"""Probabilities `(n_actions,)` -> action."""

ORIGINAL_SECONDS = 91 * 60
"""Seconds of the original code on the full protocol, both families, one seed, measured by us on
this kind of machine; see docs/explanation/performance.md."""
PAPERS_OBSERVERS = ("ma-lfl", "ma-lfl-own-action", "ma-lfl-state", "ma-lfl-faithful")


def td(fast: bool) -> list[Contest]:
    """Joint td steps: the compiled stage against a plain loop in Python."""
    from malfl_algos.play.tabular import sample_stage

    game = markov_game(grid_world_v0.parallel_env())
    policies = [np.full((game.n_states, n), 1 / n) for n in game.n_actions]
    length, ours, plain = (200, 50, 2) if fast else (1000, 3000, 10)
    rng = np.random.default_rng(0)

    def compiled() -> object:
        return sample_stage(
            game,
            [np.log(policy) for policy in policies],
            seed=0,
            episodes=ours,
            episode_length=length,
            discount=DISCOUNT,
            temperature=TEMPERATURE,
            step_size=STEP_SIZE,
            keep_steps=False,
        )

    def loop(draw: Draw) -> Callable[[], object]:
        return lambda: plain_stage(game, policies, draw, episodes=plain, episode_length=length)

    def draw_cheaply(probabilities: FloatArray) -> int:
        return int(probabilities[:-1].cumsum().searchsorted(rng.random(), side="right"))

    compiled()
    return [
        Contest(
            name,
            "steps/s",
            ours=compiled,
            baseline=loop(draw),
            against=against,
            ours_steps=ours * length,
            baseline_steps=plain * length,
            aim=aim,
        )
        for name, draw, against, aim in (
            ("td", choose_with(rng), "plain Python/NumPy loop", 300),
            ("td, cheap draws", draw_cheaply, "the same loop without Generator.choice", None),
        )
    ]


def choose_with(rng: np.random.Generator) -> Draw:
    """Draws an action as the paper's protocol is usually written."""
    return lambda probabilities: int(rng.choice(len(probabilities), p=probabilities))


def plain_stage(
    game: MarkovGame,
    policies: Sequence[FloatArray],
    draw: Draw,
    *,
    episodes: int,
    episode_length: int,
) -> tuple[list[FloatArray], NDArray[np.int64]]:
    """A stage of the paper's protocol on the 3x3 game, in plain Python and NumPy.

    Returns q per agent `(81, 5)` and the joint counts `(81, 5, 5)`: what `sample_stage` gives, from
    another random stream.
    """
    size, goal = 3, 8
    moves = ((1, 0), (-1, 0), (0, -1), (0, 1), (0, 0))
    rewards = [game.reward(agent) for agent in range(2)]
    q = [np.zeros(policy.shape) for policy in policies]
    counts = np.zeros((size**4, 5, 5), dtype=np.int64)

    def move(cell: int, action: int) -> int:
        if cell == goal:
            return 0
        row, column = divmod(cell, size)
        row = min(max(row + moves[action][0], 0), size - 1)
        column = min(max(column + moves[action][1], 0), size - 1)
        return row * size + column

    for _ in range(episodes):
        cells = [0, 0]
        for _ in range(episode_length):
            s = cells[0] * size**2 + cells[1]
            actions = [draw(policy[s]) for policy in policies]
            cells = [move(cell, action) for cell, action in zip(cells, actions, strict=True)]
            t = cells[0] * size**2 + cells[1]
            for agent, (policy, a) in enumerate(zip(policies, actions, strict=True)):
                b = draw(policy[t])
                soft_value = q[agent][t, b] - TEMPERATURE * np.log(policy[t, b])
                target = rewards[agent][s] + DISCOUNT * soft_value
                q[agent][s, a] += STEP_SIZE * (target - q[agent][s, a])
            counts[s, actions[0], actions[1]] += 1
    return q, counts


def protocol(fast: bool) -> list[Contest]:
    """One command from learning to figures, on all processors, into a new folder.

    The paper's observers with one seed; our observer and one of the paper's with five.
    """
    small: tuple[str, ...] = ()
    ours, share = ("ma-lfl", "ma-lfl-bellman"), 1.0
    if fast:
        small, share = ("--fast", "--iterations", "2"), 2 * 100 * 200 / (10 * 3000 * 1000)
    else:
        for observers in (PAPERS_OBSERVERS, ours):
            _reproduce("--fast", "--observers", *observers)

    def contest(name: str, observers: Sequence[str], n_seeds: int, seconds: float) -> Contest:
        seeds = range(1 if fast else n_seeds)
        options = ["--observers", *observers, "--seeds", *map(str, seeds)]
        original = n_seeds * ORIGINAL_SECONDS
        return Contest(
            name,
            "s",
            ours=lambda: _reproduce(*small, *options),
            baseline=original * share,
            against="original code, measured by us earlier" + f", x {n_seeds}" * (n_seeds > 1),
            aim=original / seconds,
        )

    return [
        contest("protocol", PAPERS_OBSERVERS, 1, seconds=10),
        contest("protocol, 5 seeds", ours, 5, seconds=20),
    ]


def _reproduce(*options: str) -> None:
    script = Path(__file__).with_name("reproduce.py")
    with tempfile.TemporaryDirectory() as folder:
        argv = [sys.executable, str(script), "--output-dir", str(Path(folder) / "run"), *options]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"benchmark: reproduce failed\n{done.stderr}")
