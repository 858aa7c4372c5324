"""One run of the line `scaling` in a separate process, so that its peak memory can be measured.

`python benchmark_scaling_run.py '{"size": 4, "n_agents": 2, ...}'` prints what came of it as JSON.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np
from benchmark_lines import DISCOUNT, TEMPERATURE

from malfl_env import grid_world_v0, markov_game
from malfl_env.grid_world import GridWorld

FAMILY = "heterogeneous"


@dataclass(frozen=True)
class Job:
    """The settings of a run.

    Args:
        size, n_agents: of the game.
        n_stages: of exact learning.
        solver: of the recovery.
        noise_variance, prior_variance: None: searched by evidence.
    """

    size: int
    n_agents: int
    n_stages: int = 10
    solver: Literal["auto", "dense", "iterative"] = "auto"
    noise_variance: float | None = None
    prior_variance: float | None = None

    @property
    def name(self) -> str:
        """Of the game."""
        return f"{self.size}x{self.size}, {self.n_agents} agents"

    def environment(self) -> GridWorld:
        """The game as an environment."""
        return grid_world_v0.parallel_env(rewards=FAMILY, size=self.size, n_agents=self.n_agents)


def solve(job: Job) -> dict[str, Any]:
    """Learn exactly, and recover from the policies themselves.

    Returns:
        Seconds, bytes, what the diagnostics say of the solver, and Pearson's correlation of every
        agent's reward with the true one; noise and prior are geometric means over agents.
    """
    from malfl_algos.learners.ma_spi import MaSpi
    from malfl_algos.observers.bayesian import MaLflBellman
    from malfl_algos.trace import LearningTrace

    before, env = peak_bytes(), job.environment()
    game = markov_game(env)
    learner = MaSpi(DISCOUNT, TEMPERATURE, evaluation="exact", episodes=1, episode_length=1)
    observer = MaLflBellman(
        learner="exact",
        improvement=0.0,
        solver=job.solver,
        noise_variance=job.noise_variance,
        prior_variance=job.prior_variance,
    )
    started = perf_counter()
    stages = list(learner.learn(env, n_stages=job.n_stages, rng=np.random.default_rng(0)))
    learned = perf_counter()
    recovered = observer.recover(
        LearningTrace(tuple(stage.observed for stage in stages)),
        game=game.without_rewards(),
        discount=DISCOUNT,
        temperature=TEMPERATURE,
        known_policies={
            agent: np.stack([stage.joint_policy[agent] for stage in stages])
            for agent in game.agents
        },
    )
    done = perf_counter()
    told = [recovered.diagnostics[agent] for agent in game.agents]
    return {
        "learning": learned - started,
        "recovery": done - learned,
        "peak_bytes": peak_bytes(),
        "bytes_before": before,
        "solver": told[0]["solver"],
        "sd_method": told[0]["sd_method"],
        "iterations": [agent["iterations"] for agent in told],
        "pearson": [
            float(np.corrcoef(recovered.rewards[agent], game.reward(index))[0, 1])
            for index, agent in enumerate(game.agents)
        ],
        "noise_variance": _geometric_mean([agent["noise_variance"] for agent in told]),
        "prior_variance": _geometric_mean([agent["prior_variance"] for agent in told]),
    }


def _geometric_mean(values: list[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def peak_bytes() -> int:
    """Largest resident memory of this process so far.

    Linux counts what the parent held when it started the process into getrusage's figure, and tells
    the process's own in /proc.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource  # not available on Windows

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else 1024 * most


def main() -> None:
    """Run the job in the first argument, after a tiny job that compiles and loads everything."""
    job = Job(**json.loads(sys.argv[1]))
    tiny = replace(job, size=2, n_agents=2, n_stages=3, noise_variance=1e-5, prior_variance=2.0)
    for solver in ("dense", "iterative"):
        solve(replace(tiny, solver=solver))
    print(json.dumps(solve(job)))


if __name__ == "__main__":
    main()
