"""The inputs of scores: arrays and the game, prepared once for all observers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from malfl_algos.scores.agreement import CALIBRATION, calibration
from malfl_algos.scores.distances import RewardSpace, averaged_space, joint_space
from malfl_algos.scores.means import Score
from malfl_algos.scores.prediction import Prediction, prediction_scores
from malfl_algos.scores.regret import TruePlay, regret, true_play
from malfl_env.arguments import Discount, Temperature, typed
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = ["HeldOut", "Need", "Reference", "ScoringInputs", "reference", "with_policies"]

FloatArray = NDArray[np.float64]
Need = Literal["ground_truth", "dynamics", "posterior_covariance", "trace"]
"""The inputs that a score may need beside the recovered rewards."""

REGRET_STAGES = 10
"""Number of stages of learning from the recovered and from the ground-truth rewards."""


@typed
@dataclass(frozen=True, eq=False)
class Reference:
    """The ground-truth rewards of a game, and the prepared parts of scores against them.

    Made by `reference` and `with_policies`, or from rewards alone if the game is not known.

    Args:
        truth: per agent id the ground-truth reward, `(n_states,)` or `(n_states, *n_actions)`.
        states: bool `(n_states,)`: the joint states to compare; None means all.
        game: the dynamics and the ground-truth rewards; None if they are not known.
        discount: gamma.
        play: values reached by learning from the ground-truth rewards, for regrets.
        joint: the space in which rewards over joint actions are compared.
        averaged: per agent the space in which rewards are averaged over the other agents' policies;
            empty if these policies are not known.
        missing: the reason why `play` or `joint` is None, by its name.
    """

    truth: Mapping[str, FloatArray]
    states: NDArray[np.bool_] | None = None
    game: MarkovGame | None = None
    discount: Discount = 0.0
    play: TruePlay | None = None
    joint: RewardSpace | None = None
    averaged: tuple[RewardSpace, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)


@typed
def reference(
    game: MarkovGame, *, discount: Discount, temperature: Temperature, states: NDArray[np.bool_]
) -> Reference:
    """Prepare the parts that all scores against one set of ground-truth rewards share.

    Args:
        game: dynamics and ground-truth rewards.
        discount, temperature: of the learners.
        states: bool `(n_states,)`: the joint states to compare.
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


@typed
def with_policies(base: Reference, policies: Mapping[str, FloatArray]) -> Reference:
    """The reference with spaces averaged over the agents' policies of the last stage.

    Args:
        base: from `reference`.
        policies: per agent id the ground-truth policies `(n_stages, n_states, n_actions)`.
    """
    game = base.game
    if game is None:
        raise InputError("base must have the game, because policies are averaged over; got None")
    absent = [agent for agent in game.agents if agent not in policies]
    if absent:
        raise InputError(f"policies must have an entry for every agent, {absent[0]} has none")
    last = [policies[agent][-1] for agent in game.agents]
    return replace(
        base,
        averaged=tuple(
            averaged_space(game, last, index, discount=base.discount, weights=base.states)
            for index in range(game.n_agents)
        ),
    )


@typed
@dataclass(frozen=True, eq=False)
class HeldOut:
    """Stages to predict, and the rewards that predict them.

    The prediction is held out only if the rewards were recovered from earlier stages.

    Args:
        game: the dynamics.
        rewards: per agent id the recovered reward.
        joint_counts: per stage int `(n_states, *n_actions)`.
        first_stage: number of the first stage to predict, counted from 0.
        discount, temperature: of the learners.
    """

    game: MarkovGame
    rewards: Mapping[str, FloatArray]
    joint_counts: Sequence[NDArray[np.int64]]
    first_stage: int
    discount: Discount
    temperature: Temperature

    @cached_property
    def predictions(self) -> dict[str, dict[str, Prediction]]:
        """Scores per agent id and name of a prediction; see `prediction_scores`."""
        return prediction_scores(
            self.game,
            self.rewards,
            self.joint_counts,
            first_stage=self.first_stage,
            discount=self.discount,
            temperature=self.temperature,
        )


@typed
@dataclass(frozen=True, eq=False)
class ScoringInputs:
    """All inputs of the scores of one observer's rewards.

    Args:
        rewards: per agent id the recovered reward.
        reference: the ground truth; None if it is not known.
        covariance, sd: of the posterior, per agent id; agents without a posterior are left out.
        held_out: stages to predict; None if there are none.
        missing: the reason why an input is None, by need.
        unfit: why the rewards cannot be scored at all; empty: they can.
    """

    rewards: Mapping[str, FloatArray]
    reference: Reference | None = None
    covariance: Mapping[str, FloatArray] = field(default_factory=dict)
    sd: Mapping[str, FloatArray] = field(default_factory=dict)
    held_out: HeldOut | None = None
    missing: Mapping[Need, str] = field(default_factory=dict)
    unfit: str = ""

    def lacks(self, need: Need, agent: str) -> str | None:
        """The reason why an input of an agent's scores is missing; None if it is not."""
        if self.unfit:
            return self.unfit
        if need == "posterior_covariance":
            if agent in self.covariance:
                return None
            if agent in self.sd:
                return (
                    "there are posterior standard deviations, but no covariance: keep the "
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
        """Per agent the regret when all agents learn together from the recovered rewards."""
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
        """Calibration scores by name, per agent that has a covariance."""
        truth = self.reference
        assert truth is not None
        found = {}
        for agent, covariance in self.covariance.items():
            try:
                found[agent] = calibration(
                    self.rewards[agent], truth.truth[agent], covariance, states=truth.states
                )
            except InputError as fault:  # another shape; the other scores are still computed
                found[agent] = dict.fromkeys(CALIBRATION, Score(None, str(fault)))
        return found
