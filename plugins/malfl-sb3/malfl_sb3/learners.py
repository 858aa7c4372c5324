"""The learner plugins: unmodified PPO, A2C and DQN of stable-baselines3."""

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
        n_epochs: passes of an update through its rollout.
        entropy_weight: of the entropy in the loss, SB3's `ent_coef`. It is not a temperature: it
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
        for name in ("n_steps", "batch_size"):  # one advantage cannot be normalised
            if getattr(self, name) < 2:
                raise InputError(f"{name} must be >= 2, got {getattr(self, name)}")
        self._check_whole_rollouts(self.n_steps)
        self._check_not_negative("entropy_weight")

    def model(self, view: AgentView) -> PPO:
        """Return a new PPO on an agent's view."""
        return PPO(
            "MlpPolicy",
            view,
            n_steps=self.n_steps,
            batch_size=self.batch_size,
            n_epochs=self.n_epochs,
            ent_coef=self.entropy_weight,
            **self.common(),
        )


@dataclass(frozen=True, kw_only=True)
class Sb3A2c(Sb3Learner):
    """Advantage actor-critic, one A2C of stable-baselines3 per agent.

    Args:
        n_steps: steps of a rollout, after which A2C updates; `timesteps` must be a multiple of it.
        gae_lambda: lambda in [0, 1] of the advantage estimate; 1: the return of the rollout.
        entropy_weight: of the entropy in the loss, SB3's `ent_coef`. It is not a temperature: it
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
        """Return a new A2C on an agent's view."""
        return A2C(
            "MlpPolicy",
            view,
            n_steps=self.n_steps,
            gae_lambda=self.gae_lambda,
            ent_coef=self.entropy_weight,
            **self.common(),
        )


@dataclass(frozen=True, kw_only=True)
class Sb3Dqn(Sb3Learner):
    """Deep Q-learning, one DQN of stable-baselines3 per agent.

    Its policy is its epsilon-greedy exploration policy; epsilon falls linearly from 1.

    Args:
        learning_starts: random steps before the first update, >= 1.
        train_freq: steps between two gradient steps.
        batch_size: steps of a gradient step.
        buffer_size: steps in the replay buffer, at most.
        target_update_interval: steps between two updates of the target network.
        exploration_fraction: fraction of the whole training in which epsilon falls, in (0, 1].
        exploration_final: final epsilon, in [0, 1].

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
        """Return a new DQN on an agent's view."""
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
            **self.common(),
        )
