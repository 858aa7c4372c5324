"""MA-SPI with networks: soft policy iteration by all agents, in games that need not be listed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import MultiDiscrete
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from malfl_algos.contract import API_VERSION, LearnedStage, PlayedStage
from malfl_algos.learners.improvement import Improvement
from malfl_algos.learners.network_settings import NetworkSettings
from malfl_algos.learners.soft_q import AgentSteps, log_probabilities, probabilities
from malfl_algos.networks.mlp import torch_device
from malfl_algos.play.episodes import joined, play_stage
from malfl_algos.play.games import Games, games_of
from malfl_algos.play.spaces import narrowed
from malfl_algos.play.tabular import StageSample, observed_stage, sample_stage
from malfl_algos.trace import Transitions
from malfl_env import markov_game
from malfl_env.checks import check_count, check_table_bytes
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = ["MaSpiNetwork"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class MaSpiNetwork(NetworkSettings):
    """Soft policy iteration by every agent at once, with a policy and a soft-Q network each.

    Each stage the agents play `episodes` episodes under their current policies, the first time the
    uniform one. Then each regresses its q of its own action on (5) along the steps of that stage,
    and moves its policy to the improved one, (6).

    Args:
        discount: gamma in [0, 1).
        temperature: alpha > 0, shared by all agents.
        episodes: episodes a stage.
        episode_length: steps after which an episode is cut; `play` knows ends of the game's, too.
        keep_transitions: whether a learning trace keeps the steps in their order.
        hidden: widths of the hidden layers, of policy and soft-Q networks alike.
        q_updates: gradient steps of a soft-Q network in a stage.
        q_learning_rate: of Adam at the stage's first step; it falls to 0 along a cosine.
        q_batch_size: steps of the stage that a gradient step sees.
        target_rate: part of the way that the target network follows in each step, in (0, 1].
        warm_start: whether a stage goes on from the soft-Q network of the one before; else anew.
        policy_updates: gradient steps of a policy network in a stage.
        policy_learning_rate: as of the soft-Q network.
        policy_batch_size: steps of the stage that a gradient step sees.
        game_copies: games that `play` plays side by side.
        device: of the networks: cpu, cuda, cuda:1, ...
        log_dir: folder for TensorBoard's files, one folder in it for each seed; null: none.

    Raises:
        InputError: for an option out of its range; the message names it.
    """

    discount: float
    temperature: float
    episodes: int = 3000
    episode_length: int = 1000
    keep_transitions: bool = False

    api_version: ClassVar[tuple[int, int]] = API_VERSION

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.discount < 1:
            raise InputError(f"discount must be in [0, 1), got {self.discount}")
        if not 0 < self.temperature < np.inf:
            raise InputError(f"temperature must be > 0 and finite, got {self.temperature}")
        for name in ("episodes", "episode_length"):
            check_count(name, getattr(self, name), minimum=1)

    def learn(
        self, env: ParallelEnv[str, Any, Any], *, n_stages: int, rng: np.random.Generator
    ) -> Iterator[LearnedStage]:
        """Yield the stages of a tabular game; see `malfl_algos.contract.Learner`.

        Every agent's networks see the digits of the joint state (grid world: rows and columns).

        Args:
            env: a grid world, or any environment that `malfl_env.markov_game` knows.
            n_stages: how many stages, >= 1.
            rng: one seed is drawn from it for the networks, and one per stage.

        Raises:
            InputError: at once, for an environment without a tabular model, with more joint states
                and actions than can be counted, or a device that is not there.
            RuntimeError: on the way, where training diverges.
        """
        game = markov_game(env)
        check_table_bytes(
            8 * game.n_states * math.prod(game.n_actions),
            f"the visits of {game.n_states} joint states and their joint actions",
        )
        torch_device(self.device)
        return self._learned(game, n_stages, rng)

    def play(self, env: Any, *, n_stages: int, rng: np.random.Generator) -> Iterator[PlayedStage]:
        """Yield the stages of any game; see `malfl_algos.contract.ObservationLearner`.

        Args:
            env: a parallel environment with discrete actions, whose agents begin and end together;
                it is copied, or a function that makes one.
            n_stages: how many stages, >= 1.
            rng: one seed is drawn from it for the networks, then those of the games and actions.

        Raises:
            InputError: at once, for an environment that does not fit, or a device that is not
                there; on the way, where agents do not end together.
            RuntimeError: on the way, where training diverges.
        """
        torch_device(self.device)
        return self._played(games_of(env, min(self.game_copies, self.episodes)), n_stages, rng)

    def _learned(
        self, game: MarkovGame, n_stages: int, rng: np.random.Generator
    ) -> Iterator[LearnedStage]:
        space: Any = MultiDiscrete(list(game.observation_shape))
        digits = narrowed(game.observation(np.arange(game.n_states)), space)
        spaces = (space,) * game.n_agents
        with self._improvement(game.agents, spaces, game.n_actions, rng) as improvement:
            for stage in range(n_stages):
                log_policies = [log_probabilities(agent, digits) for agent in improvement.agents]
                sample = sample_stage(
                    game,
                    log_policies,
                    seed=int(rng.integers(2**64, dtype=np.uint64)),
                    episodes=self.episodes,
                    episode_length=self.episode_length,
                    discount=self.discount,
                    temperature=self.temperature,
                    step_size=0.0,
                    keep_steps=True,
                )
                yield LearnedStage(
                    observed_stage(
                        game, sample, keep_transitions=self.keep_transitions, complete=True
                    ),
                    {a: np.exp(own) for a, own in zip(game.agents, log_policies, strict=True)},
                )
                if stage < n_stages - 1:
                    improvement.improve(_tabular_steps(game, sample, digits))

    def _played(
        self, games: Games, n_stages: int, rng: np.random.Generator
    ) -> Iterator[PlayedStage]:
        with self._improvement(games.agents, games.spaces, games.n_actions, rng) as improvement:
            for stage in range(n_stages):
                played = joined(
                    play_stage(
                        games,
                        lambda index, seen: probabilities(improvement.agents[index], seen),
                        episodes=self.episodes,
                        episode_length=self.episode_length,
                        rng=rng,
                    )
                )
                yield played
                if stage < n_stages - 1:
                    improvement.improve(_played_steps(played, games.agents))

    def _improvement(
        self,
        names: Sequence[str],
        spaces: Sequence[Any],
        n_actions: Sequence[int],
        rng: np.random.Generator,
    ) -> Improvement:
        return Improvement(
            names,
            spaces,
            n_actions,
            settings=self,
            discount=self.discount,
            temperature=self.temperature,
            rng=rng,
        )


def _tabular_steps(
    game: MarkovGame, sample: StageSample, digits: NDArray[Any]
) -> Iterator[AgentSteps]:
    assert sample.steps is not None
    states, joint_actions, next_states, episode_ends = sample.steps
    own_actions = np.unravel_index(joint_actions, game.n_actions)
    observations, next_observations = digits[states], digits[next_states]
    for index, actions in enumerate(own_actions):
        table = game.reward(index)
        rewards = (
            table[states]
            if table.ndim == 1
            else table.reshape(game.n_states, -1)[states, joint_actions]
        )
        yield AgentSteps(observations, actions, rewards, next_observations, episode_ends)


def _played_steps(played: PlayedStage, agents: Sequence[str]) -> Iterator[AgentSteps]:
    steps: Transitions = played.observed
    assert steps.observations is not None
    assert steps.next_observations is not None
    for index, agent in enumerate(agents):
        yield AgentSteps(
            steps.observations[agent],
            steps.joint_actions[:, index],
            played.rewards[agent],
            steps.next_observations[agent],
            steps.episode_ends,
            steps.terminations,
        )
