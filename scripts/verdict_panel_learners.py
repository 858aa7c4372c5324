"""Learners of the panel: those that some rule of the observers covers, and those that none covers.

Each is a function that yields the joint log-policies of every stage; `play` turns them into a
trace. They read the game's rewards, as learners do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from malfl_algos.learners.q_learning import QLearning
from malfl_algos.play.tabular import StageSample, observed_stage, sample_stage
from malfl_algos.soft import soft_evaluation
from malfl_algos.trace import LearningTrace
from malfl_env.markov_game import MarkovGame

__all__ = ["LEARNERS", "Q_LEARNERS", "Play", "learn"]

FloatArray = NDArray[np.float64]
Policies = Sequence[FloatArray]
"""Log-policies, `(n_states, n_actions)` per agent."""


@dataclass(frozen=True)
class Play:
    """How a learner plays and learns.

    Args:
        n_stages, episodes, episode_length: of the trace.
        discount, temperature, step_size: of the learner.
        seed: of everything random.
    """

    n_stages: int = 6
    episodes: int = 300
    episode_length: int = 100
    discount: float = 0.9
    temperature: float = 3.0
    step_size: float = 0.1
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Situation:
    """What a learner sees after a stage."""

    game: MarkovGame
    play: Play
    policies: Policies
    sample: StageSample
    stage: int
    rng: np.random.Generator
    memory: dict[str, list[FloatArray]]


Rule = Callable[[Situation], list[FloatArray]]


def learn(game: MarkovGame, learner: str, play: Play) -> LearningTrace:
    """The trace of a learner of `LEARNERS` or of `Q_LEARNERS`, with all transitions."""
    if learner in Q_LEARNERS:
        return _learn_q(game, learner, play)
    first, rule = LEARNERS[learner]
    rng = np.random.default_rng(play.seed)
    policies: Policies = first(game, rng)
    memory: dict[str, list[FloatArray]] = {}
    stages = []
    for number in range(play.n_stages):
        sample = sample_stage(
            game,
            policies,
            seed=int(rng.integers(2**63)),
            episodes=play.episodes,
            episode_length=play.episode_length,
            discount=play.discount,
            temperature=play.temperature,
            step_size=play.step_size,
            keep_steps=True,
        )
        stages.append(observed_stage(game, sample, keep_transitions=True, complete=True))
        policies = rule(Situation(game, play, policies, sample, number, rng, memory))
    return LearningTrace(tuple(stages))


class _Env:
    """An environment that is nothing but its tabular model."""

    def __init__(self, game: MarkovGame) -> None:
        self.game = game

    def markov_game(self) -> MarkovGame:
        """The model."""
        return self.game


def _learn_q(game: MarkovGame, learner: str, play: Play) -> LearningTrace:
    made = QLearning(
        discount=play.discount,
        temperature=play.temperature,
        step_size=play.step_size,
        episodes=play.episodes,
        episode_length=play.episode_length,
        keep_transitions=True,
        **Q_LEARNERS[learner],
    )
    env: Any = _Env(game)
    stages = made.learn(env, n_stages=play.n_stages, rng=np.random.default_rng(play.seed))
    return LearningTrace(tuple(stage.observed for stage in stages))


def _uniform(game: MarkovGame, rng: np.random.Generator) -> list[FloatArray]:
    return [np.full((game.n_states, n), -np.log(n)) for n in game.n_actions]


def _random(game: MarkovGame, rng: np.random.Generator) -> list[FloatArray]:
    return [log_softmax(rng.normal(size=(game.n_states, n)), axis=1) for n in game.n_actions]


def _values(at: Situation, rewards: Sequence[FloatArray] | None = None) -> list[FloatArray]:
    """Exact soft values over the temperature."""
    game = at.game if rewards is None else at.game.with_rewards(rewards)
    joint = [np.exp(own) for own in at.policies]
    scale = {"discount": at.play.discount, "temperature": at.play.temperature}
    return [
        soft_evaluation(game, joint, index, **scale)[0] / at.play.temperature
        for index in range(game.n_agents)
    ]


def _improved(x: Sequence[FloatArray]) -> list[FloatArray]:
    return [np.asarray(log_softmax(own, axis=1)) for own in x]


def _td(at: Situation) -> list[FloatArray]:
    return _improved([q / at.play.temperature for q in at.sample.q])


def _exact(at: Situation) -> list[FloatArray]:
    return _improved(_values(at))


def _retaining(share: float) -> Rule:
    """Natural policy gradient with entropy: a share of the log-policy is kept."""

    def rule(at: Situation) -> list[FloatArray]:
        moved = zip(at.policies, _values(at), strict=True)
        return _improved([share * own + (1 - share) * q for own, q in moved])

    return rule


def _static(at: Situation) -> list[FloatArray]:
    return list(at.policies)


def _drift(at: Situation) -> list[FloatArray]:
    """A random walk of the logits."""
    return _improved([own + at.rng.normal(scale=0.4, size=own.shape) for own in at.policies])


def _noise(at: Situation) -> list[FloatArray]:
    """A new random policy in every stage."""
    return _random(at.game, at.rng)


def _imitation(at: Situation) -> list[FloatArray]:
    """Agents go a third of the way towards a hidden expert's policy, drawn at random."""
    goal = at.memory.setdefault("expert", _random(at.game, at.rng))
    return _improved([own + (2 * g - own) / 3 for own, g in zip(at.policies, goal, strict=True)])


def _copying(at: Situation) -> list[FloatArray]:
    """Each agent copies the policy of the next agent with as many actions, with errors."""
    turned = []
    for index, own in enumerate(at.policies):
        others = (*at.policies[index + 1 :], *at.policies[: index + 1])
        turned.append(next(other for other in others if other.shape == own.shape))
    return _improved([own + at.rng.normal(scale=0.5, size=own.shape) for own in turned])


def _changing(at: Situation) -> list[FloatArray]:
    """Soft policy iteration for a reward that is drawn anew in every stage."""
    return _improved(
        _values(at, [2 * at.rng.normal(size=at.game.n_states) for _ in at.game.n_actions])
    )


def _curious(at: Situation) -> list[FloatArray]:
    """Soft policy iteration for a bonus of joint states that the stage visited rarely."""
    visits = at.sample.joint_counts.reshape(at.game.n_states, -1).sum(axis=1)
    bonus = 3 * at.play.temperature / np.sqrt(1 + visits / max(visits.mean(), 1))
    return _improved(_values(at, [bonus] * at.game.n_agents))


def _bandit(at: Situation) -> list[FloatArray]:
    """Agents reinforce the actions that they happened to play most often (no values, no reward)."""
    moved = []
    for index, own in enumerate(at.policies):
        axes = tuple(axis for axis in range(1, at.game.n_agents + 1) if axis != index + 1)
        counts = at.sample.joint_counts.sum(axis=axes)
        share = (counts + 1) / (counts.sum(axis=1, keepdims=True) + counts.shape[1])
        moved.append(1.3 * np.log(share) + at.rng.normal(scale=0.1, size=own.shape))
    return _improved(moved)


def _myopic(at: Situation) -> list[FloatArray]:
    """Agents maximise the reward of the next state alone."""
    joint = [np.exp(own) for own in at.policies]
    return _improved(
        [
            soft_evaluation(at.game, joint, index, discount=0.05, temperature=at.play.temperature)[
                0
            ]
            * 10
            / at.play.temperature
            for index in range(at.game.n_agents)
        ]
    )


def _mixing(at: Situation) -> list[FloatArray]:
    """Agents go back and forth between the rewards of all agents."""
    turn = at.stage % at.game.n_agents
    rewards = [at.game.reward(turn) * (-1) ** at.stage for _ in at.game.n_actions]
    return _improved(_values(at, rewards))


LEARNERS: Mapping[str, tuple[Callable[..., list[FloatArray]], Rule]] = {
    "td": (_uniform, _td),
    "exact": (_uniform, _exact),
    "npg-0.3": (_uniform, _retaining(0.3)),
    "npg-0.7": (_uniform, _retaining(0.7)),
    "npg-0.9": (_uniform, _retaining(0.9)),
    "static": (_random, _static),
    "drift": (_uniform, _drift),
    "noise": (_random, _noise),
    "imitation": (_uniform, _imitation),
    "copying": (_random, _copying),
    "changing": (_uniform, _changing),
    "curious": (_uniform, _curious),
    "bandit": (_uniform, _bandit),
    "myopic": (_uniform, _myopic),
    "mixing": (_uniform, _mixing),
}
"""First policies, and the rule that makes the next ones."""
Q_LEARNERS: Mapping[str, Mapping[str, Any]] = {
    "q-learning": {"algorithm": "q_learning", "policy": "frozen"},
    "q-learning-moving": {"algorithm": "q_learning", "policy": "moving"},
    "expected-sarsa": {"algorithm": "expected_sarsa", "policy": "frozen"},
    "decaying": {"algorithm": "q_learning", "policy": "frozen", "step_size_decay": 0.6},
}
"""Options of the learner `q-learning` of the package."""
