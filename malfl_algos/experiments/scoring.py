"""All scores of one observer's rewards, against the truth and without it, as columns of a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.experiments.recovery import Recovered, score_rows
from malfl_algos.scores.calibration import CALIBRATION, calibration
from malfl_algos.scores.correlation import Score
from malfl_algos.scores.distances import RewardSpace, averaged_space, epic, joint_space, starc
from malfl_algos.scores.prediction import PREDICTIONS, Prediction
from malfl_algos.scores.regret import TruePlay, regret, true_play
from malfl_env import MarkovGame

__all__ = [
    "PREDICTION_MEASURES",
    "TRUTH_MEASURES",
    "Judge",
    "columns",
    "judge",
    "prediction_measures",
    "scored_rows",
    "truth_scores",
    "with_policies",
]

FloatArray = NDArray[np.float64]
Scores = Mapping[str, Score]

REGRET_STAGES = 10
"""Stages of learning from the recovered and from the true rewards."""

DISTANCES = ("epic", "starc", "epic_averaged", "starc_averaged")
TRUTH_MEASURES = (*DISTANCES, "regret", *CALIBRATION)
"""What is scored against the true rewards, beside correlation."""
PREDICTION_MEASURES = tuple(
    f"{name}_{measure}" for measure in ("log_likelihood", "divergence") for name in PREDICTIONS
)
"""What is scored on stages of a trace: the rewards' prediction and the baselines."""


@dataclass(frozen=True, eq=False)
class Judge:
    """The true rewards of a game, and what recovered ones are measured on.

    Args:
        game, discount: dynamics, true rewards and gamma.
        states: bool `(n_states,)`: the joint states that count.
        play: what learning from the true rewards leads to.
        joint: where rewards over joint actions are compared.
        averaged: per agent, where rewards are compared with the others averaged out; empty before
            it is known what they play.
        missing: why `play` or `joint` is None, by its name.
    """

    game: MarkovGame
    discount: float
    states: NDArray[np.bool_]
    play: TruePlay | None
    joint: RewardSpace | None
    averaged: tuple[RewardSpace, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)


def judge(
    game: MarkovGame, *, discount: float, temperature: float, states: NDArray[np.bool_]
) -> Judge:
    """Prepare what all scores against one set of true rewards share.

    Args:
        game: dynamics and true rewards.
        discount, temperature: the learners'.
        states: bool `(n_states,)`: the joint states that count.
    """
    made, missing = Judge(game, discount, states, None, None), {}
    try:
        made = replace(made, joint=joint_space(game, discount=discount, weights=states))
    except ValueError as fault:  # too large a table
        missing["joint"] = str(fault)
    try:
        play = true_play(game, discount=discount, temperature=temperature, n_stages=REGRET_STAGES)
        made = replace(made, play=play)
    except ArithmeticError as fault:  # too large a system to be solved well enough
        missing["play"] = str(fault)
    return replace(made, missing=missing)


def with_policies(base: Judge, policies: Mapping[str, FloatArray]) -> Judge:
    """The same, with the others averaged over what they played in the last stage.

    Args:
        policies: per agent id the true policies `(n_stages, n_states, n_actions)`.
    """
    last = [policies[agent][-1] for agent in base.game.agents]
    return replace(
        base,
        averaged=tuple(
            averaged_space(base.game, last, index, discount=base.discount, weights=base.states)
            for index in range(base.game.n_agents)
        ),
    )


def truth_scores(
    base: Judge, rewards: Mapping[str, FloatArray], posterior: Mapping[str, FloatArray]
) -> dict[str, dict[str, Score]]:
    """Scores of one observer's rewards against the true ones.

    Args:
        base: from `judge` and `with_policies`.
        rewards: per agent id the recovered reward. For the regret, agents that are not in it learn
            from their true rewards.
        posterior: `agent_<i>_covariance` and `agent_<i>_sd`, as in `posterior.npz`; empty where the
            method has none.

    Returns:
        Per agent id and per name in `TRUTH_MEASURES` a score. `epic` and `starc` compare rewards of
        the joint action, `epic_averaged` and `starc_averaged` rewards of the agent's own action,
        the others averaged over their last true policies.
    """
    regrets = _regrets(base, rewards)
    scores = {}
    for index, agent in enumerate(base.game.agents):
        if agent not in rewards:
            continue
        estimate, truth = rewards[agent], base.game.reward(index)
        own = {"regret": regrets[agent]}
        averaged = base.averaged[index] if base.averaged else None
        for name, measure in (("epic", epic), ("starc", starc)):
            own[name] = _distance(measure, estimate, truth, base.joint, base.missing)
            own[f"{name}_averaged"] = _distance(measure, estimate, truth, averaged, {})
        own |= _calibration(agent, estimate, truth, posterior, base.states)
        scores[agent] = {name: own[name] for name in TRUTH_MEASURES}
    return scores


def scored_rows(
    base: Judge, recovered: Recovered, truth: Mapping[str, FloatArray]
) -> Iterator[dict[str, Any]]:
    """Rows `agent, pearson, spearman, reason`, the scores in `TRUTH_MEASURES`, and `reasons`.

    Args:
        base: from `judge` and `with_policies`.
        recovered: by observing agent; where there is one, it stands in the row as `observing`.
        truth: per agent id the true reward.
    """
    for observing, result in recovered.items():
        posterior = {f"{agent}_sd": array for agent, array in (result.sd or {}).items()}
        posterior |= {f"{a}_covariance": array for a, array in (result.covariance or {}).items()}
        further = truth_scores(base, result.rewards, posterior)
        for row in score_rows({observing: result.rewards}, truth, base.states):
            yield {**row, **columns(further[row["agent"]])}


def columns(scores: Scores) -> dict[str, Any]:
    """Scores as columns of a row: values, and under `reasons` why there is none."""
    values: dict[str, Any] = {name: score.value for name, score in scores.items()}
    reasons = {name: score.reason for name, score in scores.items() if score.value is None}
    return {**values, "reasons": reasons}


def prediction_measures(predictions: Mapping[str, Prediction]) -> dict[str, Score]:
    """Predictions by name in `PREDICTIONS` as scores by name in `PREDICTION_MEASURES`."""
    return {
        f"{name}_{measure}": getattr(predictions[name], measure)
        for measure in ("log_likelihood", "divergence")
        for name in PREDICTIONS
    }


def _distance(
    measure: Callable[[FloatArray, FloatArray, RewardSpace], Score],
    estimate: FloatArray,
    truth: FloatArray,
    space: RewardSpace | None,
    missing: Mapping[str, str],
) -> Score:
    if space is None:
        return Score(None, missing.get("joint", "what the agents played last is not known"))
    return measure(estimate, truth, space)


def _regrets(base: Judge, rewards: Mapping[str, FloatArray]) -> dict[str, Score]:
    reason = base.missing.get("play")
    if base.play is not None:
        try:
            return regret(rewards, base.play)
        except ArithmeticError as fault:
            reason = str(fault)
    return {agent: Score(None, reason) for agent in rewards}


def _calibration(
    agent: str,
    estimate: FloatArray,
    truth: FloatArray,
    posterior: Mapping[str, FloatArray],
    states: NDArray[np.bool_],
) -> dict[str, Score]:
    covariance = posterior.get(f"{agent}_covariance")
    if covariance is None and f"{agent}_sd" in posterior:
        why = "deviations alone do not say how errors go together: keep the posterior covariance"
        return {name: Score(None, why) for name in CALIBRATION}
    try:
        return calibration(estimate, truth, covariance, states=states)
    except ValueError as fault:  # a covariance of another shape: the rewards are still worth a look
        return {name: Score(None, str(fault)) for name in CALIBRATION}
