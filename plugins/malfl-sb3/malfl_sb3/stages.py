"""From independent learners to the stages of a learning trace.

Between two stages the agents learn side by side by `malfl_sb3.training`. A stage is then played
under their present policies, which do not change within the stage. The learners have therefore not
learned from the steps that an observer sees.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from gymnasium.spaces import Discrete
from numpy.typing import NDArray
from pettingzoo import ParallelEnv
from stable_baselines3.common.base_class import BaseAlgorithm

from malfl_algos.contract import API_VERSION, LearnedStage, StageTruth
from malfl_algos.play import Games, games_of, observed_stage, sample_stage, tabular_game
from malfl_env import MarkovGame
from malfl_env.errors import InputError
from malfl_env.observations import observation_space, observations_of
from malfl_sb3.behaviour import check_readable, log_behaviour
from malfl_sb3.playing import played_stage
from malfl_sb3.training import IndependentTraining
from malfl_sb3.view import AgentView, agent_views

__all__ = ["Sb3Learner"]


@dataclass(frozen=True, kw_only=True)
class Sb3Learner:
    """Agents that learn side by side, each by its own stable-baselines3 algorithm.

    Base class of learner plugins: a subclass has a method `model` that builds an algorithm on an
    agent's view. The algorithm must have an actor-critic policy without memory and masks, as PPO,
    A2C and sb3-contrib's TRPO, or be DQN; any other is rejected when it is built.

    Args:
        discount: gamma in [0, 1).
        episodes: episodes per stage, played under fixed policies.
        episode_length: steps per episode.
        keep_transitions: whether the trace keeps the ordered steps.
        timesteps: steps from which each agent learns between two stages.
        mode: "simultaneous": all agents learn from the same steps; "alternating": one after the
            other, while the others' policies are fixed.
        learning_rate: of the optimiser.
        policy_network: widths of the hidden layers of each network (policy, value or Q).
        game_copies: games played side by side, if the game has no tabular model.

    Raises:
        InputError: for an option out of its range; the message names it.
    """

    discount: float
    episodes: int = 3000
    episode_length: int = 1000
    keep_transitions: bool = False
    timesteps: int = 2048
    mode: Literal["simultaneous", "alternating"] = "simultaneous"
    learning_rate: float = 3e-4
    policy_network: tuple[int, ...] = (64, 64)
    game_copies: int = 256

    api_version: ClassVar[tuple[int, int]] = API_VERSION

    def __post_init__(self) -> None:
        if not 0 <= self.discount < 1:
            raise InputError(f"discount must be in [0, 1), got {self.discount}")
        if self.mode not in ("simultaneous", "alternating"):
            raise InputError(f"mode must be 'simultaneous' or 'alternating', got {self.mode!r}")
        if not 0 < self.learning_rate < np.inf:
            raise InputError(f"learning_rate must be > 0 and finite, got {self.learning_rate}")
        for width in self.policy_network:
            if width < 1:
                raise InputError(f"policy_network must hold widths >= 1, got {self.policy_network}")
        self._check_at_least_one("episodes", "episode_length", "timesteps", "game_copies")

    def _check_at_least_one(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be >= 1, got {getattr(self, name)}")

    def _check_fractions(self, *names: str) -> None:
        for name in names:
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must be in [0, 1], got {getattr(self, name)}")

    def _check_not_negative(self, name: str) -> None:
        if not 0 <= getattr(self, name) < np.inf:
            raise InputError(f"{name} must be >= 0 and finite, got {getattr(self, name)}")

    def _check_whole_rollouts(self, n_steps: int) -> None:
        if self.timesteps % n_steps:
            raise InputError(
                f"timesteps must be a multiple of n_steps ({n_steps}), so that every stage follows "
                f"an update; got {self.timesteps}"
            )

    @abstractmethod
    def model(self, view: AgentView) -> BaseAlgorithm:
        """Return a new model on an agent's view; `common()` has keywords for it."""

    def common(self) -> dict[str, Any]:
        """Keywords that every stable-baselines3 algorithm takes, from the options of this class."""
        return {
            "gamma": self.discount,
            "learning_rate": self.learning_rate,
            "policy_kwargs": {"net_arch": list(self.policy_network)},
            "device": "cpu",
        }

    def _stage_model(self, view: AgentView) -> BaseAlgorithm:
        model = self.model(view)
        if isinstance(model, BaseAlgorithm):
            check_readable(model)
        return model

    def learn(
        self, env: ParallelEnv[str, Any, Any], *, n_stages: int, rng: np.random.Generator
    ) -> Iterator[LearnedStage]:
        """Yield stages; see `malfl_algos.contract.Learner`.

        If the game has a tabular model and its agents observe the joint state, the stages hold
        counts. In any other game an episode ends when the game ends it, or after
        `episode_length` steps.

        Args:
            env: any parallel environment whose agents have discrete actions, observe arrays or
                discrete values, and begin and end together. Stages are played in copies of it.
            n_stages: number of stages, >= 1. The first is played by untrained agents.
            rng: one seed is drawn from it for the training and one per stage.

        Raises:
            InputError: at once, for an environment that does not fit or cannot be copied; later, if
                agents end at different times.
        """
        game = tabular_game(env)
        if game is not None:
            return self._tabular(env, game, _all_observations(env, game), n_stages, rng)
        agent_views(env)
        games = games_of(env, min(self.game_copies, self.episodes))
        return self._played(env, games, n_stages, rng)

    def _tabular(
        self,
        env: ParallelEnv[str, Any, Any],
        game: MarkovGame,
        observations: Mapping[str, NDArray[Any]],
        n_stages: int,
        rng: np.random.Generator,
    ) -> Iterator[LearnedStage]:
        for models in self._trained(env, n_stages, rng):
            log_policies = [
                log_behaviour(model, observations[agent]) for agent, model in models.items()
            ]
            yield self._sample(game, log_policies, seed=int(rng.integers(2**63)))

    def _played(
        self,
        env: ParallelEnv[str, Any, Any],
        games: Games,
        n_stages: int,
        rng: np.random.Generator,
    ) -> Iterator[LearnedStage]:
        for models in self._trained(env, n_stages, rng):
            yield played_stage(
                games,
                models,
                episodes=self.episodes,
                episode_length=self.episode_length,
                rng=np.random.default_rng(int(rng.integers(2**63))),
            )

    def _trained(
        self, env: ParallelEnv[str, Any, Any], n_stages: int, rng: np.random.Generator
    ) -> Iterator[Mapping[str, BaseAlgorithm]]:
        """Yield the models before training, then after every `timesteps`."""
        alternating = self.mode == "alternating"
        agents = env.possible_agents
        with IndependentTraining(
            env,
            dict.fromkeys(agents, self._stage_model),
            total_timesteps=max(1, (n_stages - 1) * self.timesteps),
            rng=rng,
            mode=self.mode,
            turn_timesteps=self.timesteps if alternating else None,
        ) as training:
            for stage in range(n_stages):
                if stage:
                    training.advance(self.timesteps * (len(agents) if alternating else 1))
                yield training.models

    def _sample(
        self, game: MarkovGame, log_policies: list[NDArray[np.float64]], *, seed: int
    ) -> LearnedStage:
        sample = sample_stage(
            game,
            log_policies,
            seed=seed,
            episodes=self.episodes,
            episode_length=self.episode_length,
            discount=self.discount,
            temperature=1.0,  # unused: a step_size of 0 makes no td updates
            step_size=0.0,
            keep_steps=self.keep_transitions or not game.deterministic,
        )
        stage = observed_stage(game, sample, keep_transitions=self.keep_transitions, complete=False)
        policies = [np.exp(log_policy) for log_policy in log_policies]
        return LearnedStage(stage, StageTruth(dict(zip(game.agents, policies, strict=True))))


def _all_observations(env: ParallelEnv[str, Any, Any], game: MarkovGame) -> dict[str, NDArray[Any]]:
    """Return every agent's observation of every joint state, `(n_states, ...)`.

    Raises:
        InputError: if an agent does not observe the joint state.
    """
    if not isinstance(env, ParallelEnv):
        raise InputError(f"env must be a PettingZoo parallel environment, got {env!r}")
    if tuple(env.possible_agents) != game.agents:
        raise InputError(f"the agents must be {game.agents}, got {env.possible_agents}")
    digits = game.observation(np.arange(game.n_states))
    expected = observation_space(game.observation_form, game.observation_shape)
    seen = observations_of(game.observation_form, digits, game.observation_shape)
    observed = {}
    for agent in game.agents:
        space = env.observation_space(agent)
        if isinstance(space, Discrete) and game.observation_shape == (space.n,):
            observed[agent] = digits[:, 0]
        elif space == expected:
            observed[agent] = seen
        else:
            raise InputError(
                f"{agent} must observe the joint state, {expected}, but its observation space is "
                f"{space}"
            )
    return observed
