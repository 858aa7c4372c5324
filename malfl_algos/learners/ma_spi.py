"""MA-SPI: all agents improve at once by soft policy iteration (the paper's Algorithm 1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from malfl_algos.contract import API_VERSION, LearnedStage, StageTruth
from malfl_algos.play.tabular import observed_stage, sample_stage, table_of_visits
from malfl_algos.soft import log_soft_improvement, soft_evaluation
from malfl_env.arguments import Count, typed
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = ["MaSpi"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class MaSpi:
    """Soft policy iteration by all agents at once, from the uniform policy.

    In each stage the agents play `episodes` episodes under their current policies. Each agent then
    evaluates the joint policy by (5), averaged over the others' actions, and improves by (6).

    Args:
        discount: discount factor gamma in [0, 1).
        temperature: weight alpha > 0 of the entropy, the same for all agents.
        evaluation: how agents compute their action values q. `td`, as in the paper, makes
            temporal-difference updates along the stage's episodes, from 0 in every stage; `exact`
            solves a linear system. The observer sees the episodes in both cases.
        episodes: episodes per stage.
        episode_length: steps per episode; no episode ends earlier.
        step_size: step size beta in (0, 1] of the td updates.
        keep_transitions: whether the trace keeps the ordered steps.

    Raises:
        InputError: for an option out of its range; the message names it.
    """

    discount: float
    temperature: float
    evaluation: str = "td"
    episodes: int = 3000
    episode_length: int = 1000
    step_size: float = 0.1
    keep_transitions: bool = False

    api_version: ClassVar[tuple[int, int]] = API_VERSION

    def __post_init__(self) -> None:
        if not 0 <= self.discount < 1:
            raise InputError(f"discount must be in [0, 1), got {self.discount}")
        if not 0 < self.temperature < np.inf:
            raise InputError(f"temperature must be > 0 and finite, got {self.temperature}")
        if self.evaluation not in ("td", "exact"):
            hint = "; use the learner 'ma-spi-network'" if self.evaluation == "network" else ""
            raise InputError(f"evaluation must be 'td' or 'exact', got {self.evaluation!r}{hint}")
        for name in ("episodes", "episode_length"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be >= 1, got {getattr(self, name)}")
        if not 0 < self.step_size <= 1:
            raise InputError(f"step_size must be in (0, 1], got {self.step_size}")

    @typed
    def learn(
        self, env: ParallelEnv[str, Any, Any], *, n_stages: Count, rng: np.random.Generator
    ) -> Iterator[LearnedStage]:
        """Yield stages; see `malfl_algos.contract.Learner`.

        Args:
            env: a grid world, or any environment that `malfl_env.markov_game` knows.
            n_stages: number of stages, >= 1.
            rng: one 64-bit seed is drawn from it per stage.

        Raises:
            InputError: at once, see `malfl_algos.play.tabular.table_of_visits`.
        """
        return self._stages(table_of_visits(env), n_stages, rng)

    def _stages(
        self, game: MarkovGame, n_stages: Count, rng: np.random.Generator
    ) -> Iterator[LearnedStage]:
        log_policies = [np.full((game.n_states, n), -np.log(n)) for n in game.n_actions]
        for _ in range(n_stages):
            joint_policy = [np.exp(log_policy) for log_policy in log_policies]
            sample = sample_stage(
                game,
                log_policies,
                seed=int(rng.integers(2**64, dtype=np.uint64)),
                episodes=self.episodes,
                episode_length=self.episode_length,
                discount=self.discount,
                temperature=self.temperature,
                step_size=self.step_size if self.evaluation == "td" else 0.0,
                keep_steps=self.keep_transitions or not game.deterministic,
            )
            yield LearnedStage(
                observed_stage(game, sample, keep_transitions=self.keep_transitions, complete=True),
                StageTruth(
                    {
                        agent: policy.copy()
                        for agent, policy in zip(game.agents, joint_policy, strict=True)
                    }
                ),
            )
            q = sample.q if self.evaluation == "td" else self._exact_q(game, joint_policy)
            log_policies = [log_soft_improvement(own, temperature=self.temperature) for own in q]

    def _exact_q(self, game: MarkovGame, joint_policy: Sequence[FloatArray]) -> list[FloatArray]:
        return [
            soft_evaluation(
                game, joint_policy, index, discount=self.discount, temperature=self.temperature
            )[0]
            for index in range(game.n_agents)
        ]
