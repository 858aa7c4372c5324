"""What `benchmark.py` times: per line of its table, our code and something set to the same task."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_env import MarkovGame, grid_world_v0, markov_game

FloatArray = NDArray[np.float64]
Draw = Callable[[FloatArray], int]
"""Probabilities `(n_actions,)` -> action."""

DISCOUNT, TEMPERATURE, STEP_SIZE = 0.9, 3.0, 0.1
ORIGINAL_SECONDS = 91 * 60
"""The original code on the full protocol, both families, one seed: measured by us on this kind of
machine, see docs/performance.md."""
PAPERS_OBSERVERS = ("ma-lfl", "ma-lfl-own-action", "ma-lfl-state", "ma-lfl-faithful")


@dataclass(frozen=True)
class Contest:
    """One row of the table.

    Args:
        name: of the row.
        unit: "steps/s", or "s" for the whole task.
        ours, baseline: what is timed. A number in place of the baseline is seconds measured
            elsewhere.
        against: what the baseline is.
        ours_steps, baseline_steps: steps that a call makes; 1 where the unit is "s".
        aim: ratio that we want.
        notes: facts that belong to the row.
    """

    name: str
    unit: str
    ours: Callable[[], object]
    baseline: Callable[[], object] | float
    against: str
    ours_steps: int = 1
    baseline_steps: int = 1
    aim: float | None = None
    notes: Mapping[str, float] = field(default_factory=dict)


def td(fast: bool) -> list[Contest]:
    """Joint td steps: the compiled stage against a loop as one writes it in Python."""
    from malfl_algos.sampling import sample_stage

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


def step(fast: bool) -> list[Contest]:
    """Steps of the parallel environment against two others, all on the same random numbers."""
    n_steps = 200 if fast else 10_000
    draws = np.random.default_rng(0).random((n_steps, 2))
    endless = 10**9
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # rps loads pygame
    spread = import_module("mpe2.simple_spread_v3").parallel_env(N=2, max_cycles=endless)
    rps = import_module("pettingzoo.classic.rps.rps").parallel_env(max_cycles=endless)
    ours = _walk(grid_world_v0.parallel_env(max_cycles=endless), draws)
    return [
        Contest(
            f"step, {name}",
            "steps/s",
            ours=ours,
            baseline=_walk(env, draws),
            against=against,
            ours_steps=n_steps,
            baseline_steps=n_steps,
            aim=aim,
        )
        for name, env, against, aim in (
            ("simple_spread", spread, "mpe2 simple_spread_v3, N=2", 20),
            ("rps", rps, "PettingZoo rps_v2, parallel form", None),
        )
    ]


def _walk(env: Any, draws: FloatArray) -> Callable[[], None]:
    """Steps along pre-drawn actions, numpy integers as `Discrete.sample` gives them."""
    env.reset(seed=0)
    sizes = np.array([env.action_space(agent).n for agent in env.agents])
    table = (draws * sizes).astype(np.int64)
    walk = [dict(zip(env.agents, row, strict=True)) for row in table]

    def run() -> None:
        for actions in walk:
            env.step(actions)

    run()
    return run


def protocol(fast: bool) -> list[Contest]:
    """The paper from learning to pictures by one command, on all processors, into a new folder."""
    script = Path(__file__).with_name("reproduce.py")

    def reproduce(*options: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            argv = [sys.executable, str(script), "--output-dir", str(Path(folder) / "run")]
            argv += ["--observers", *PAPERS_OBSERVERS]
            done = subprocess.run([*argv, *options], capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"benchmark: reproduce failed\n{done.stderr}")

    reproduce("--fast")
    share = 4 * 100 * 200 / (10 * 3000 * 1000) if fast else 1.0
    return [
        Contest(
            "protocol",
            "s",
            ours=lambda: reproduce("--fast" if fast else "--seeds=0"),
            baseline=ORIGINAL_SECONDS * share,
            against="original code, measured by us earlier",
            aim=ORIGINAL_SECONDS / 10,
        )
    ]


def recovery(fast: bool) -> list[Contest]:
    """Equation (12) of both agents, set up and solved exactly, against 1000 epochs of Adam."""
    from threadpoolctl import threadpool_limits

    from malfl_algos.ma_lfl import regression
    from malfl_algos.ma_lfl.adam import adam_regression

    agents, epochs = _improvements(fast), 10 if fast else 1000
    threadpool_limits(1)  # as in the pipeline

    def equations(agent: Any) -> tuple[FloatArray, Any]:
        blocks = regression.reward_blocks("joint", agent.others, 5)
        return blocks, regression.potential_matrix(agent.transitions, discount=DISCOUNT)

    def exact() -> list[float]:
        fits = [
            regression.least_squares(*equations(agent), agent.targets, agent.seen)
            for agent in agents
        ]
        return [fit.residual for fit in fits]

    def adam() -> list[float]:
        residuals = []
        for agent in agents:
            used = np.repeat(agent.seen.ravel(), 5)
            design = regression.design_matrix(*equations(agent))[used]
            targets = agent.targets.ravel()[used]
            unknowns = adam_regression(design, targets, learning_rate=0.01, epochs=epochs)
            residuals.append(float(np.sqrt(np.mean((design @ unknowns - targets) ** 2))))
        return residuals

    notes = {
        f"root mean square residual of (12), agent_{index}, {method}": residual
        for method, residuals in (("exact", exact()), ("Adam", adam()))
        for index, residual in enumerate(residuals)
    }
    against = f"Adam, {epochs} epochs at 0.01"
    return [Contest("recovery", "s", ours=exact, baseline=adam, against=against, notes=notes)]


def _improvements(fast: bool) -> list[Any]:
    """What (12) needs of each agent after the paper's learning, homogeneous family, seed 0."""
    from malfl_algos.ma_lfl.policy_estimation import entropy_regularised_policy
    from malfl_algos.ma_lfl.recovery import recover_by_regression
    from malfl_algos.ma_lfl.regression import Fit
    from malfl_algos.ma_spi import MaSpi
    from malfl_algos.trace import LearningTrace

    env = grid_world_v0.parallel_env()
    learner = MaSpi(DISCOUNT, TEMPERATURE, episodes=100 if fast else 3000)
    stages = learner.learn(env, n_stages=3 if fast else 10, rng=np.random.default_rng(0))
    kept = []

    def keep(improvements: Any) -> tuple[Fit, dict[str, Any]]:
        kept.append(improvements)
        return Fit(np.zeros((81, 25)), np.zeros(improvements.seen.shape), rank=0, residual=0.0), {}

    recover_by_regression(
        LearningTrace(tuple(stage.observed for stage in stages)),
        game=markov_game(env).without_rewards(),
        discount=DISCOUNT,
        temperature=TEMPERATURE,
        known_policies=None,
        model="joint",
        estimate=lambda counts, agent, stage: entropy_regularised_policy(
            counts, entropy_coefficient=0.3
        ),
        regress=keep,
    )
    return kept


def seconds_of(run: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = perf_counter()
    run()
    return perf_counter() - started
