"""The lines `step` and `vector`: only environments, one game at a time and thousands at once."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import cycle, islice
from typing import Any

import gymnasium
import numpy as np
from benchmark_lines import Contest
from numpy.typing import NDArray

from malfl_env import grid_world_v0, single_agent_env
from malfl_env.vector import GridWorldVector, SingleAgentVector

FloatArray = NDArray[np.float64]
N_GAMES = 4096


def step(fast: bool) -> list[Contest]:
    """Steps of the parallel environment against two others with the same random numbers."""
    n_steps = 200 if fast else 10_000
    draws = np.random.default_rng(0).random((n_steps, 2))
    endless = 10**9
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # rps loads pygame
    spread = import_module("mpe2.simple_spread_v3").parallel_env(N=2, max_cycles=endless)
    rps = import_module("pettingzoo.classic.rps.rps").parallel_env(max_cycles=endless)
    ours = _dictionaries(grid_world_v0.parallel_env(max_cycles=endless), draws)
    return [
        Contest(
            f"step, {name}",
            "steps/s",
            ours=ours,
            baseline=_dictionaries(env, draws),
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


def vector(fast: bool) -> list[Contest]:
    """Game steps of a batch: one learner against Gymnasium's, all agents against SuperSuit's.

    A step of one game counts once, however many agents it has. Actions are drawn beforehand and
    episodes are the paper's, 1000 steps. Our side makes more calls, so that both take a while.
    """
    n_games = 64 if fast else N_GAMES
    ours_calls, their_calls = (20, 5) if fast else (2000, 10)
    uniform = np.full((81, 5), 0.2)
    view = partial(single_agent_env, policies={"agent_1": uniform})
    both = np.random.default_rng(0).integers(5, size=(16, n_games, 2))
    one = both[..., 0]
    flat = both.reshape(16, 2 * n_games)  # SuperSuit's rows: game by game, agent by agent
    sync: Any = gymnasium.vector.SyncVectorEnv([view] * n_games)
    gymnasiums = _walk(sync, one, their_calls)
    supersuits = _walk(_concatenated(n_games), flat, their_calls)
    contests = []
    for backend in ("numpy", "numba") if find_spec("numba") else ("numpy",):
        learner = SingleAgentVector(n_games, policies={"agent_1": uniform}, backend=backend)
        everyone = GridWorldVector(n_games, backend=backend)
        for kind, env, actions, baseline, against in (
            ("one learner", learner, one, gymnasiums, "Gymnasium SyncVectorEnv of the view"),
            ("all agents", everyone, both, supersuits, "SuperSuit concat_vec_envs_v1"),
        ):
            contests.append(
                Contest(
                    f"vector, {kind}, {backend}",
                    "steps/s",
                    ours=_walk(env, actions, ours_calls),
                    baseline=baseline,
                    against=against,
                    ours_steps=ours_calls * n_games,
                    baseline_steps=their_calls * n_games,
                    notes={"games at once": n_games},
                )
            )
    return contests


def _concatenated(n_games: int) -> Any:
    """Copies of our parallel environment in SuperSuit's vector environment; one process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of its own imports
        supersuit = import_module("supersuit")
    one = supersuit.pettingzoo_env_to_vec_env_v1(grid_world_v0.parallel_env())
    return supersuit.concat_vec_envs_v1(one, n_games, num_cpus=0, base_class="gymnasium")


def _dictionaries(env: Any, draws: FloatArray) -> Callable[[], None]:
    """Steps along pre-drawn actions, NumPy integers as from `Discrete.sample`."""
    env.reset(seed=0)
    sizes = np.array([env.action_space(agent).n for agent in env.agents])
    table = (draws * sizes).astype(np.int64)
    run = _walk(env, [dict(zip(env.agents, row, strict=True)) for row in table], len(table))
    run()
    return run


def _walk(env: Any, actions: Sequence[Any] | NDArray[Any], n_calls: int) -> Callable[[], None]:
    """The given number of steps along pre-drawn actions, repeated from the start."""
    env.reset(seed=0)

    def run() -> None:
        for chosen in islice(cycle(actions), n_calls):
            env.step(chosen)

    return run
