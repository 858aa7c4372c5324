"""Settings of learners with networks; read without PyTorch, so that they can be checked early."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from malfl_env.errors import InputError

__all__ = ["NetworkSettings"]


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """How the networks of a learner are built and trained.

    Args:
        hidden: widths of the hidden layers, of policy and soft-Q networks alike.
        q_updates: gradient steps of a soft-Q network in a stage.
        q_learning_rate: of Adam at the stage's first step; it falls to 0 along a cosine.
        q_batch_size: steps of the stage that a gradient step sees.
        target_rate: part of the way that the target network follows in each step, in (0, 1].
        warm_start: whether a stage goes on from the soft-Q network of the one before; else anew.
        policy_updates, policy_learning_rate, policy_batch_size: the same for the projection of a
            policy network.
        game_copies: games that are played side by side where there is no tabular model.
        device: of the networks: cpu, cuda, cuda:1, ...
        log_dir: folder for TensorBoard's files, one folder in it for each seed; null: none.

    Raises:
        InputError: for a setting out of its range; the message names it.
    """

    hidden: tuple[int, ...] = (64, 64)
    q_updates: int = 2000
    q_learning_rate: float = 3e-3
    q_batch_size: int = 512
    target_rate: float = 0.05
    warm_start: bool = True
    policy_updates: int = 500
    policy_learning_rate: float = 3e-3
    policy_batch_size: int = 512
    game_copies: int = 256
    device: str = "cpu"
    log_dir: str | None = None

    def __post_init__(self) -> None:
        for name in ("q_updates", "q_batch_size", "policy_updates", "policy_batch_size"):
            self._check_at_least_one(name)
        self._check_at_least_one("game_copies")
        if not all(width >= 1 for width in self.hidden):
            raise InputError(f"hidden must hold widths >= 1, got {self.hidden}")
        for name in ("q_learning_rate", "policy_learning_rate"):
            rate = getattr(self, name)
            if not (rate > 0 and isfinite(rate)):
                raise InputError(f"{name} must be > 0 and finite, got {rate}")
        if not 0 < self.target_rate <= 1:
            raise InputError(f"target_rate must be in (0, 1], got {self.target_rate}")

    def _check_at_least_one(self, name: str) -> None:
        if getattr(self, name) < 1:
            raise InputError(f"{name} must be >= 1, got {getattr(self, name)}")
