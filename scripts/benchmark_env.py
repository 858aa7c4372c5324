"""The line `step`: the environment alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from benchmark_lines import Contest
from numpy.typing import NDArray

from malfl_env import grid_world_v0

FloatArray = NDArray[np.float64]


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
