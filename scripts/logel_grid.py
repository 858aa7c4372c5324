"""The grid world of LOGEL, and the policy-gradient learner that its authors observed.

Ramponi, Drappo and Restelli, *Inverse Reinforcement Learning from a Gradient-based Learner*,
NeurIPS 2020: 5 x 5 cells of five colours, one reward weight for each colour, a softmax policy that
learns by G(PO)MDP. `benchmark_observers.py` lets observers recover the reward.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from malfl_algos.contract import API_VERSION, LearnedStage, StageTruth
from malfl_algos.ma_lfl.gpomdp import episodes_of, gpomdp_gradient
from malfl_algos.play import observed_stage, sample_stage
from malfl_env import MarkovGame, markov_game
from malfl_env.errors import InputError
from malfl_env.markov_game import deterministic_game

__all__ = ["COLOURS", "GRID", "WEIGHTS", "Gpomdp", "colour_features", "logel_grid"]

FloatArray = NDArray[np.float64]

GRID = ("NNNRR", "NNNNR", "NNVNN", "PNNNN", "PPNNG")
COLOURS = "RVNPG"
WEIGHTS = (0.0, -5.0, -1.0, -3.0, 7.0)
"""Reward of a cell, by its colour."""
MOVES = ((1, 0), (-1, 0), (0, -1), (0, 1))
"""Actions: down, up, left, right; a move off the board is staying."""


def colour_features() -> FloatArray:
    """Which colour a cell has, `(25, 5)`; the reward is these features times `WEIGHTS`."""
    cells = "".join(GRID)
    return np.array([[float(cell == colour) for colour in COLOURS] for cell in cells])


def logel_grid() -> MarkovGame:
    """The game of one agent that starts top left.

    Every action on the goal, bottom right, leads back to the start. The reward of a step is that of
    the cell before the move. The authors reward the cell entered, the same one step later.
    """
    size = len(GRID)
    table = np.zeros((size**2, len(MOVES)), dtype=np.int64)
    for cell in range(size**2 - 1):
        for action, move in enumerate(MOVES):
            row, column = np.clip(np.add(divmod(cell, size), move), 0, size - 1)
            table[cell, action] = row * size + column
    return deterministic_game(table, start=0, rewards=[colour_features() @ np.array(WEIGHTS)])


@dataclass(frozen=True)
class Gpomdp:
    """Independent policy gradient by G(PO)MDP: theta += step_size * gradient after every stage.

    Args:
        discount: in [0, 1); the paper has 0.96.
        episodes: per stage; the paper has 50.
        episode_length: steps per episode; the paper has 20.
        step_size: learning rate, > 0; the paper has 0.1.
        parameters: `last-fixed`, as in the paper: the logit of the last action is 0 in every state;
            `all`: one free logit per action.
        keep_transitions: whether the trace keeps the ordered steps.
    """

    discount: float = 0.96
    episodes: int = 50
    episode_length: int = 20
    step_size: float = 0.1
    parameters: Literal["last-fixed", "all"] = "last-fixed"
    keep_transitions: bool = True

    api_version: ClassVar[tuple[int, int]] = API_VERSION

    def __post_init__(self) -> None:
        if not (0 <= self.discount < 1 and 0 < self.step_size < np.inf):
            raise InputError(f"discount must be in [0, 1) and step_size > 0, got {self}")
        if min(self.episodes, self.episode_length) < 1:
            raise InputError(f"episodes and episode_length must be >= 1, got {self}")

    def learn(self, env: Any, *, n_stages: int, rng: np.random.Generator) -> Iterator[LearnedStage]:
        """Yield the stages; see `malfl_algos.contract.Learner`."""
        return self._stages(markov_game(env), n_stages, rng)

    def _stages(
        self, game: MarkovGame, n_stages: int, rng: np.random.Generator
    ) -> Iterator[LearnedStage]:
        logits = [np.zeros((game.n_states, n)) for n in game.n_actions]
        for _ in range(n_stages):
            logs = [np.asarray(log_softmax(own, axis=1)) for own in logits]
            sample = sample_stage(
                game,
                logs,
                seed=int(rng.integers(2**63)),
                episodes=self.episodes,
                episode_length=self.episode_length,
                discount=self.discount,
                temperature=1.0,
                step_size=0.0,
                keep_steps=True,
            )
            policies = [np.exp(log) for log in logs]
            truth = {agent: own.copy() for agent, own in zip(game.agents, policies, strict=True)}
            seen = observed_stage(
                game, sample, keep_transitions=self.keep_transitions, complete=True
            )
            assert sample.steps is not None
            gradients = list(self._gradients(game, policies, sample.steps))
            yield LearnedStage(seen, StageTruth(truth))
            for index, gradient in enumerate(gradients):
                logits[index] = logits[index] + self.step_size * gradient

    def _gradients(
        self, game: MarkovGame, policies: Sequence[FloatArray], steps: tuple[NDArray[Any], ...]
    ) -> Iterator[FloatArray]:
        """Of every agent's discounted return, `(n_states, n_actions)`; 0 for fixed logits."""
        states, joint, _, ends = steps
        actions = np.stack(np.unravel_index(joint, game.n_actions), axis=-1)
        episodes = episodes_of(states, actions, ends)
        for index, policy in enumerate(policies):
            gradient = gpomdp_gradient(
                policy, episodes, index, game.reward(index)[..., None], discount=self.discount
            )[..., 0]
            if self.parameters == "last-fixed":
                gradient[:, -1] = 0.0
            yield gradient
