"""What `benchmark.py` times of `malfl_env.vector`: batches of games against the usual wrappers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import gymnasium
import numpy as np
from benchmark_lines import Contest
from numpy.typing import NDArray

from malfl_env import grid_world_v0, single_agent_env
from malfl_env.vector import GridWorldVector, SingleAgentVector

N_GAMES = 4096
AGENTS = 2


def vector(fast: bool) -> list[Contest]:
    """Game steps of a batch: one learner against Gymnasium's, all agents against SuperSuit's.

    A step of one game counts once, however many agents it has. Actions are drawn beforehand and
    episodes are the paper's, 1000 steps. Our side makes more calls, so that both take a while.
    """
    n_games = 64 if fast else N_GAMES
    ours_calls, their_calls = (20, 5) if fast else (2000, 10)
    uniform = np.full((81, 5), 0.2)
    view = partial(single_agent_env, policies={"agent_1": uniform})
    sync: Any = gymnasium.vector.SyncVectorEnv([view] * n_games)
    supersuit = _concatenated(n_games)
    draws = np.random.default_rng(0).integers(5, size=(16, n_games, AGENTS))
    flat = draws.reshape(16, n_games * AGENTS)  # SuperSuit's rows: game by game, agent by agent
    against_gymnasium = _walk(sync, draws[..., 0], their_calls)
    against_supersuit = _walk(supersuit, flat, their_calls)
    contests = []
    for backend in ("numpy", "numba") if find_spec("numba") else ("numpy",):
        one = SingleAgentVector(n_games, policies={"agent_1": uniform}, backend=backend)
        everyone = GridWorldVector(n_games, backend=backend)
        for kind, walk, baseline, against in (
            (
                "one learner",
                _walk(one, draws[..., 0], ours_calls),
                against_gymnasium,
                "Gymnasium SyncVectorEnv of the view",
            ),
            (
                "all agents",
                _walk(everyone, draws, ours_calls),
                against_supersuit,
                "SuperSuit concat_vec_envs_v1",
            ),
        ):
            contests.append(
                Contest(
                    f"vector, {kind}, {backend}",
                    "steps/s",
                    ours=walk,
                    baseline=baseline,
                    against=against,
                    ours_steps=ours_calls * n_games,
                    baseline_steps=their_calls * n_games,
                    notes={"games at once": n_games},
                )
            )
    return contests


def _concatenated(n_games: int) -> Any:
    """Our parallel environment, as many times, in SuperSuit's vector environment; one process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own imports
        supersuit = import_module("supersuit")
    one = supersuit.pettingzoo_env_to_vec_env_v1(grid_world_v0.parallel_env())
    return supersuit.concat_vec_envs_v1(one, n_games, num_cpus=0, base_class="gymnasium")


def _walk(env: Any, actions: NDArray[np.int64], n_calls: int) -> Callable[[], None]:
    """Steps along pre-drawn actions, over and over."""
    env.reset(seed=0)

    def run() -> None:
        for call in range(n_calls):
            env.step(actions[call % len(actions)])

    run()
    return run
