"""One run of the line `scaling`, in a process of its own, so that its peak memory is its own.

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
from numpy.typing import NDArray

from malfl_env import MarkovGame, grid_world_v0, markov_game

FloatArray = NDArray[np.float64]

FAMILY = "heterogeneous"


@dataclass(frozen=True)
class Job:
    """What a run does.

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

    def game(self) -> MarkovGame:
        """The game."""
        return markov_game(
            grid_world_v0.parallel_env(rewards=FAMILY, size=self.size, n_agents=self.n_agents)
        )


def solve(job: Job) -> dict[str, Any]:
    """Learn exactly, and recover from the policies themselves.

    Returns:
        Seconds, bytes, what the diagnostics say of the solver, and Pearson's correlation of every
        agent's reward with the true one; noise and prior are geometric means over agents.
    """
    from malfl_algos.ma_lfl.bayesian import MaLflBellman
    from malfl_algos.trace import LearningTrace, Stage

    before, game = peak_bytes(), job.game()
    started = perf_counter()
    known = _learned(game, job.n_stages)
    learned = perf_counter()
    observer = MaLflBellman(
        learner="exact",
        solver=job.solver,
        noise_variance=job.noise_variance,
        prior_variance=job.prior_variance,
    )
    once = Stage(np.ones((game.n_states, *game.n_actions), dtype=np.int64))
    recovered = observer.recover(
        LearningTrace((once,) * job.n_stages),
        game=game.without_rewards(),
        discount=DISCOUNT,
        temperature=TEMPERATURE,
        known_policies=known,
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


def _learned(game: MarkovGame, n_stages: int) -> dict[str, FloatArray]:
    """Policies of exact MA-SPI, `(n_stages, n_states, n_actions)` per agent, from the uniform."""
    from malfl_algos.soft import soft_evaluation, soft_improvement

    known = {
        agent: np.full((n_stages, game.n_states, n), 1 / n)
        for agent, n in zip(game.agents, game.n_actions, strict=True)
    }
    for stage in range(1, n_stages):
        joint_policy = [policies[stage - 1] for policies in known.values()]
        for index, policies in enumerate(known.values()):
            q, _ = soft_evaluation(
                game, joint_policy, index, discount=DISCOUNT, temperature=TEMPERATURE
            )
            policies[stage] = soft_improvement(q, temperature=TEMPERATURE)
    return known


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
        import resource  # not on Windows, which nobody has measured

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else 1024 * most


def main() -> None:
    """Run the job in the first argument, after a tiny one for what is compiled or loaded once."""
    job = Job(**json.loads(sys.argv[1]))
    tiny = replace(job, size=2, n_agents=2, n_stages=3, noise_variance=1e-5, prior_variance=2.0)
    for solver in ("dense", "iterative"):
        solve(replace(tiny, solver=solver))
    print(json.dumps(solve(job)))


if __name__ == "__main__":
    main()
