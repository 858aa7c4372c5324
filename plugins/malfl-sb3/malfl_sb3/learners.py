"""The learner plugins for malfl: PPO, A2C and DQN of stable-baselines3, unmodified."""

from __future__ import annotations

from dataclasses import dataclass

from stable_baselines3 import A2C, DQN, PPO

from malfl_env.errors import InputError
from malfl_sb3.stages import Sb3Learner
from malfl_sb3.view import AgentView

__all__ = ["Sb3A2c", "Sb3Dqn", "Sb3Ppo"]


@dataclass(frozen=True, kw_only=True)
class Sb3Ppo(Sb3Learner):
    """Proximal policy optimisation, one PPO of stable-baselines3 per agent.

    Args:
        n_steps: steps of a rollout, after which PPO updates; `timesteps` must be a multiple of it.
        batch_size: steps of a gradient step.
        n_epochs: how often an update goes through its rollout.
        entropy_weight: of the entropy in the loss, SB3's `ent_coef`. It is no temperature: it
            rewards the entropy of the present state alone, on the scale of normalised advantages.

    Raises:
        InputError: for an option out of its range; the message names it.
    """

    n_steps: int = 512
    batch_size: int = 64
    n_epochs: int = 10
    entropy_weight: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_at_least_one("n_epochs")
        for name in ("n_steps", "batch_size"):  # advantages are normalised: of one there is none
            if getattr(self, name) < 2:
                raise InputError(f"{name} must be >= 2, got {getattr(self, name)}")
        self._check_whole_rollouts(self.n_steps)
        self._check_not_negative("entropy_weight")

    def model(self, view: AgentView) -> PPO:
        """A new PPO on an agent's view."""
        return PPO(
            "MlpPolicy",
            view,
            n_steps=self.n_steps,
            batch_size=self.batch_size,
            n_epochs=self.n_epochs,
            ent_coef=self.entropy_weight,
            **self._common(),
        )


@dataclass(frozen=True, kw_only=True)
class Sb3A2c(Sb3Learner):
    """Advantage actor-critic, one A2C of stable-baselines3 per agent.

    Args:
        n_steps: steps of a rollout, after which A2C updates; `timesteps` must be a multiple of it.
        gae_lambda: lambda in [0, 1] of the advantage estimate; 1: none but the rollout's return.
        entropy_weight: of the entropy in the loss, SB3's `ent_coef`. It is no temperature: it
            rewards the entropy of the present state alone.

    Raises:
        InputError: for an option out of its range; the message names it.
    """

    n_steps: int = 16
    gae_lambda: float = 1.0
    entropy_weight: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_at_least_one("n_steps")
        self._check_whole_rollouts(self.n_steps)
        self._check_fractions("gae_lambda")
        self._check_not_negative("entropy_weight")

    def model(self, view: AgentView) -> A2C:
        """A new A2C on an agent's view."""
        return A2C(
            "MlpPolicy",
            view,
            n_steps=self.n_steps,
            gae_lambda=self.gae_lambda,
            ent_coef=self.entropy_weight,
            **self._common(),
        )


@dataclass(frozen=True, kw_only=True)
class Sb3Dqn(Sb3Learner):
    """Deep Q-learning, one DQN of stable-baselines3 per agent.

    Its policy is the epsilon-greedy one that it explores with; epsilon falls linearly from 1.

    Args:
        learning_starts: steps at random before the first update, >= 1.
        train_freq: steps from one gradient step to the next.
        batch_size: steps of a gradient step.
        buffer_size: steps the replay buffer holds.
        target_update_interval: steps from one update of the target network to the next.
        exploration_fraction: part of the whole training in which epsilon falls, in (0, 1].
        exploration_final: epsilon after that, in [0, 1].

    Raises:
        InputError: for an option out of its range; the message names it.
    """

    learning_rate: float = 1e-3
    learning_starts: int = 256
    train_freq: int = 4
    batch_size: int = 64
    buffer_size: int = 20_000
    target_update_interval: int = 512
    exploration_fraction: float = 0.8
    exploration_final: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_at_least_one(
            "learning_starts", "train_freq", "batch_size", "buffer_size", "target_update_interval"
        )
        self._check_fractions("exploration_fraction", "exploration_final")
        if self.exploration_fraction == 0:
            raise InputError("exploration_fraction must be > 0, got 0")

    def model(self, view: AgentView) -> DQN:
        """A new DQN on an agent's view."""
        return DQN(
            "MlpPolicy",
            view,
            learning_starts=self.learning_starts,
            train_freq=self.train_freq,
            batch_size=self.batch_size,
            buffer_size=self.buffer_size,
            target_update_interval=self.target_update_interval,
            exploration_fraction=self.exploration_fraction,
            exploration_final_eps=self.exploration_final,
            **self._common(),
        )
