"""What a game allows: joint policies, joint states that occur, next states that are possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_env.markov_game import MarkovGame
from malfl_env.testing.protocol import fail

__all__ = ["Dynamics"]


@dataclass(frozen=True, eq=False)
class Dynamics:
    """A game's transitions as one table.

    Args:
        start: joint state in which episodes begin.
        successors: int `(n_states, n_joint_actions, n_successors)`.
        possible: bool, same shape: whether their probability is positive.
    """

    start: int
    successors: NDArray[np.int64]
    possible: NDArray[np.bool_]

    @classmethod
    def of(cls, game: MarkovGame) -> Dynamics:
        """The dynamics of a game; raises `InputError` where their table would be too large."""
        successors, probabilities = game.joint_successors()
        shape = (game.n_states, int(np.prod(game.n_actions)), -1)
        return cls(
            game.start,
            successors.reshape(shape),
            np.broadcast_to(probabilities, successors.shape).reshape(shape) > 0,
        )

    def joint(self, policies: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
        """Probabilities of joint actions, `(n_states, n_joint_actions)`."""
        n_states = len(self.successors)
        product = np.ones((n_states, 1))
        for policy in policies:
            product = (product[:, :, None] * policy[:, None, :]).reshape(n_states, -1)
        return product

    def reached(self, policies: Sequence[NDArray[Any]]) -> NDArray[np.bool_]:
        """Joint states that these policies can lead to, bool `(n_states,)`."""
        leads = (self.joint(policies) > 0)[:, :, None] & self.possible
        reached = np.zeros(len(self.successors), dtype=bool)
        frontier = np.array([self.start])
        while len(frontier):
            reached[frontier] = True
            following = np.unique(self.successors[frontier][leads[frontier]])
            frontier = following[~reached[following]]
        return reached

    def require_possible(self, rows: NDArray[Any], next_states: NDArray[Any], where: str) -> None:
        """Each next state must be one that its (joint state, joint action) can lead to."""
        n_successors = self.successors.shape[2]
        successors = self.successors.reshape(-1, n_successors)[rows]
        allowed = self.possible.reshape(-1, n_successors)[rows]
        fits = ((successors == np.asarray(next_states)[:, None]) & allowed).any(axis=1)
        if not fits.all():
            first = int(np.argmin(fits))
            state, action = divmod(int(rows[first]), self.successors.shape[1])
            detail = (
                f"joint action {action} in joint state {state} cannot lead to "
                f"{int(next_states[first])}"
            )
            fail("impossible next state", where, detail)
