"""What scores are computed from: arrays and the game, prepared once for all observers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from malfl_algos.scores.calibration import CALIBRATION, calibration
from malfl_algos.scores.distances import RewardSpace, averaged_space, joint_space
from malfl_algos.scores.means import Score
from malfl_algos.scores.prediction import Prediction, prediction_scores
from malfl_algos.scores.regret import TruePlay, regret, true_play
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = ["HeldOut", "Need", "Reference", "ScoringInputs", "reference", "with_policies"]

FloatArray = NDArray[np.float64]
Need = Literal["ground_truth", "dynamics", "posterior_covariance", "trace"]
"""What a score may need beside the recovered rewards."""

REGRET_STAGES = 10
"""Stages of learning from the recovered and from the ground-truth rewards."""


@dataclass(frozen=True, eq=False)
class Reference:
    """The ground-truth rewards of a game, and what recovered rewards are measured on.

    Made by `reference` and `with_policies`, or from rewards alone where the game is not known.

    Args:
        truth: per agent id the ground-truth reward, `(n_states,)` or `(n_states, *n_actions)`.
        states: bool `(n_states,)`: the joint states that count; None: all.
        game: the dynamics and the ground-truth rewards; None where they are not known.
        discount: gamma.
        play: what learning from the ground-truth rewards leads to.
        joint: where rewards over joint actions are compared.
        averaged: per agent, where rewards are compared with the others averaged out; empty before
            it is known what they play.
        missing: why `play` or `joint` is None, by its name.
    """

    truth: Mapping[str, FloatArray]
    states: NDArray[np.bool_] | None = None
    game: MarkovGame | None = None
    discount: float = 0.0
    play: TruePlay | None = None
    joint: RewardSpace | None = None
    averaged: tuple[RewardSpace, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)


def reference(
    game: MarkovGame, *, discount: float, temperature: float, states: NDArray[np.bool_]
) -> Reference:
    """Prepare what all scores against one set of ground-truth rewards share.

    Args:
        game: dynamics and ground-truth rewards.
        discount, temperature: the learners'.
        states: bool `(n_states,)`: the joint states that count.
    """
    truth = {agent: game.reward(index) for index, agent in enumerate(game.agents)}
    made, missing = Reference(truth, states, game, discount), {}
    try:
        made = replace(made, joint=joint_space(game, discount=discount, weights=states))
    except InputError as fault:  # too large a table
        missing["joint"] = str(fault)
    try:
        play = true_play(game, discount=discount, temperature=temperature, n_stages=REGRET_STAGES)
        made = replace(made, play=play)
    except ArithmeticError as fault:  # too large a system to be solved well enough
        missing["play"] = str(fault)
    return replace(made, missing=missing)


def with_policies(base: Reference, policies: Mapping[str, FloatArray]) -> Reference:
    """The same, with the others averaged over what they played in the last stage.

    Args:
        base: from `reference`.
        policies: per agent id the ground-truth policies `(n_stages, n_states, n_actions)`.
    """
    game = base.game
    assert game is not None
    last = [policies[agent][-1] for agent in game.agents]
    return replace(
        base,
        averaged=tuple(
            averaged_space(game, last, index, discount=base.discount, weights=base.states)
            for index in range(game.n_agents)
        ),
    )


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Stages to predict, and the rewards to predict them by.

    Args:
        game: the dynamics.
        rewards: per agent id the recovered reward, of earlier stages alone if the prediction is to
            be honest.
        joint_counts: per stage int `(n_states, *n_actions)`.
        first_stage: number of the first stage to predict, counted from 0.
        discount, temperature: the learners'.
    """

    game: MarkovGame
    rewards: Mapping[str, FloatArray]
    joint_counts: Sequence[NDArray[np.int64]]
    first_stage: int
    discount: float
    temperature: float

    @cached_property
    def predictions(self) -> dict[str, dict[str, Prediction]]:
        """Per agent id and name of a prediction its score; see `prediction_scores`."""
        return prediction_scores(
            self.game,
            self.rewards,
            self.joint_counts,
            first_stage=self.first_stage,
            discount=self.discount,
            temperature=self.temperature,
        )


@dataclass(frozen=True, eq=False)
class ScoringInputs:
    """All that the scores of one observer's rewards may be computed from.

    Args:
        rewards: per agent id the recovered reward.
        reference: the ground truth; None: not known.
        covariance, sd: per agent id the posterior's; an agent that has none is left out.
        held_out: stages to predict; None: there are none.
        missing: what to say where something is None, by need.
    """

    rewards: Mapping[str, FloatArray]
    reference: Reference | None = None
    covariance: Mapping[str, FloatArray] = field(default_factory=dict)
    sd: Mapping[str, FloatArray] = field(default_factory=dict)
    held_out: HeldOut | None = None
    missing: Mapping[Need, str] = field(default_factory=dict)

    def lacks(self, need: Need, agent: str) -> str | None:
        """Why something that a score needs is not there; None where it is there."""
        if need == "posterior_covariance":
            if agent in self.covariance:
                return None
            if agent in self.sd:
                return (
                    "standard deviations alone do not say how errors correlate: keep the "
                    "posterior covariance"
                )
            return "no posterior covariance is given"
        there = {
            "ground_truth": self.reference is not None,
            "trace": self.held_out is not None,
            "dynamics": (self.reference is not None and self.reference.game is not None)
            or self.held_out is not None,
        }
        if there[need]:
            return None
        return self.missing.get(need, f"the {need.replace('_', ' ')} is not known")

    @cached_property
    def regrets(self) -> dict[str, Score]:
        """Regret of all agents learning from the recovered rewards together."""
        assert self.reference is not None
        reason = self.reference.missing.get("play")
        if self.reference.play is not None:
            try:
                return regret(self.rewards, self.reference.play)
            except ArithmeticError as fault:
                reason = str(fault)
        return {agent: Score(None, reason) for agent in self.rewards}

    @cached_property
    def calibrations(self) -> dict[str, dict[str, Score]]:
        """Per agent that has a covariance and per name the scores of its posterior."""
        truth = self.reference
        assert truth is not None
        found = {}
        for agent, covariance in self.covariance.items():
            try:
                found[agent] = calibration(
                    self.rewards[agent], truth.truth[agent], covariance, states=truth.states
                )
            except InputError as fault:  # of another shape: the rewards are still worth a look
                found[agent] = dict.fromkeys(CALIBRATION, Score(None, str(fault)))
        return found
