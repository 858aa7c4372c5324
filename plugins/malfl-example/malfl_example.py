"""A template: the learner `example-npg` and the observer `example-first-step`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from malfl_algos import LearningTrace
from malfl_algos.contract import LearnedStage, Problem, RecoveredRewards, StageTruth
from malfl_algos.play import observed_stage, sample_stage
from malfl_algos.soft import averaged_transition, soft_evaluation
from malfl_env import MarkovGame, markov_game
from malfl_env.errors import InputError


@dataclass(frozen=True)
class ExampleNpg:
    """Independent natural policy gradient with entropy; all agents learn at the same time.

    After a stage log pi(a|s) becomes (1 - step_size) log pi(a|s) + step_size q(s, a) / temperature,
    up to a constant per state. With step_size 1 this is soft policy iteration.
    """

    discount: float
    """Discount factor, in [0, 1)."""
    temperature: float
    """Weight of the entropy, > 0."""
    episodes: int
    """Number of episodes per stage."""
    episode_length: int
    """Number of steps per episode."""
    step_size: float = 0.3
    """Weight of the softly greedy policy in an update, in (0, 1]."""

    api_version: ClassVar[tuple[int, int]] = (2, 0)

    def __post_init__(self) -> None:
        if not (0 <= self.discount < 1 and self.temperature > 0 and 0 < self.step_size <= 1):
            raise InputError(
                f"discount must be in [0, 1), temperature > 0, step_size in (0, 1]; got {self}"
            )
        if min(self.episodes, self.episode_length) < 1:
            raise InputError(f"episodes and episode_length must be >= 1, got {self}")

    def learn(self, env: Any, *, n_stages: int, rng: np.random.Generator) -> Iterator[LearnedStage]:
        """Yield the stages; an environment without a tabular model is rejected at once."""
        return self._stages(markov_game(env), n_stages, rng)

    def _stages(
        self, game: MarkovGame, n_stages: int, rng: np.random.Generator
    ) -> Iterator[LearnedStage]:
        scale = {"discount": self.discount, "temperature": self.temperature}
        logits = [np.zeros((game.n_states, n)) for n in game.n_actions]
        for _ in range(n_stages):
            logs = [own - np.log(np.exp(own).sum(axis=1, keepdims=True)) for own in logits]
            policies = [np.exp(log) for log in logs]
            sample = sample_stage(
                game,
                logs,
                seed=int(rng.integers(2**63)),
                episodes=self.episodes,
                episode_length=self.episode_length,
                step_size=0.0,  # the stage is played without TD updates
                keep_steps=not game.deterministic,
                **scale,
            )
            seen = observed_stage(game, sample, keep_transitions=False, complete=False)
            truth = {agent: own.copy() for agent, own in zip(game.agents, policies, strict=True)}
            yield LearnedStage(seen, StageTruth(truth))
            for index, log in enumerate(logs):
                q, value = soft_evaluation(game, policies, index, **scale)
                gain = (q - value[:, None]) / self.temperature
                logits[index] = (1 - self.step_size) * log + self.step_size * gain


@dataclass(frozen=True)
class ExampleFirstStep:
    """Rewards of states, recovered from the agents' first improvement only.

    Agents that begin with a uniform policy then play pi(a|s) ~ exp(c q(s, a)). If the reward
    depends on the state only, q(s, a) - q(s, b) = discount (E[V | s, a] - E[V | s, b]). This is
    linear in V, and r = V - discount E[V']. The scale c is unknown.
    """

    pseudo_count: float = 1.0
    """Number added to every action count, > 0."""

    api_version: ClassVar[tuple[int, int]] = (2, 0)

    def __post_init__(self) -> None:
        if not self.pseudo_count > 0:
            raise InputError(f"pseudo_count must be > 0, got {self.pseudo_count}")

    def recover(
        self,
        trace: LearningTrace,
        *,
        game: MarkovGame | None,
        discount: float | None,
        temperature: float | None,
        known_policies: Mapping[str, Any] | None = None,
    ) -> RecoveredRewards:
        """Every agent's reward, `(n_states,)`; see `malfl_algos.contract.Observer`."""
        problem = Problem(trace, game, discount, temperature, known_policies)
        problem.require_stages()
        discount, temperature = problem.given("discount"), problem.given("temperature")
        game, known = problem.game, problem.known
        if game is None or discount == 0:
            raise InputError(
                f"game must be given and discount must be > 0, got {game} and {discount}"
            )
        first, second = (
            [
                known[agent][stage] if agent in known else self._policy(trace, stage, index)
                for index, agent in enumerate(trace.agents)
            ]
            for stage in (0, 1)
        )
        rewards = {}
        for index, agent in enumerate(trace.agents):
            flat = averaged_transition(game, first, index).toarray()
            moves = flat.reshape(game.n_states, -1, game.n_states)
            gain = temperature * np.log(np.maximum(second[index], 1e-12))
            left = discount * (moves - moves.mean(axis=1, keepdims=True))
            right = gain - gain.mean(axis=1, keepdims=True)
            value = np.linalg.lstsq(left.reshape(-1, game.n_states), right.ravel(), rcond=1e-6)[0]
            rewards[agent] = value - discount * moves.mean(axis=1) @ value
        return RecoveredRewards(rewards, {agent: {"n_stages": 2} for agent in rewards})

    def _policy(self, trace: LearningTrace, stage: int, index: int) -> Any:
        counts = trace.stages[stage].action_counts(index) + self.pseudo_count
        return counts / counts.sum(axis=1, keepdims=True)
