"""Fit one member of the ensemble from the moves of the policies (`form: moves`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.networks.encoding import Features
from malfl_algos.networks.features import FeatureMap, input_map, random_map
from malfl_algos.networks.gathering import Gathered, IntArray
from malfl_algos.networks.moves import Move, MovesFit, fit_moves, moves_of
from malfl_algos.networks.policy_gradients import advantages, stage_gradient, successor_map
from malfl_algos.networks.recovered_functions import Member
from malfl_env.errors import InputError

if TYPE_CHECKING:
    from malfl_algos.networks.members import MemberFit

__all__ = ["fit_moved"]

FloatArray = NDArray[np.float64]

UNITS = 64
"""Random hidden units of the policy that stands for the learner's."""
LEAST_WITHIN = 1e-6
"""Least variance of a reward feature within episodes, as a share of its variance."""


def fit_moved(fit: MemberFit, trunk: FeatureMap) -> tuple[Member, dict[str, Any]]:
    """Return a member and the details of its fit, as JSON values.

    Args:
        fit: its data and settings.
        trunk: features of observations in which the values are linear; the reward is, too, unless
            `reward_inputs` gives others.

    Raises:
        InputError: for fewer than three stages, or `reward_inputs` that do not fit.
    """
    gathered = fit.gathered
    if len(gathered.stages) < 3:
        raise InputError(
            f"form: moves needs at least 3 stages, got {len(gathered.stages)}; use form: bellman"
        )
    features = _reward_map(fit, trunk)
    values, paid = trunk(gathered.inputs), features(gathered.inputs)[:, :-1]
    within = _within(fit, paid)
    varying = np.flatnonzero(within.diagonal() > LEAST_WITHIN * paid.var(axis=0))
    if len(varying) == 0:
        raise InputError(
            f"no reward feature of agent {gathered.agent_index} varies within an episode; choose "
            "other reward_inputs"
        )
    paid, within = paid[:, varying], within[np.ix_(varying, varying)]
    moves = _moves(fit, values, paid)
    spread = np.cov(paid.T).reshape(paid.shape[1], -1)
    found = fit_moves(moves, within)
    parts: Sequence[MovesFit] = []
    if len(moves) >= 4:
        parts = [fit_moves(moves[::2], within), fit_moves(moves[1::2], within)]
    k = features.n_features
    mean, centre, covariance = np.zeros(k), np.zeros(k), np.zeros((k, k))
    mean[varying], centre[varying], centre[-1] = found.weights, _mean(fit, paid), 1.0
    covariance[np.ix_(varying, varying)] = found.covariance
    detail = {
        "improvement": 1.0,
        "scale": "open",
        "learner": "moves",
        "ridge": found.ridge,
        "log_evidence": found.log_evidence,
        "agreement": found.agreement.tolist(),
        "identified": found.identified,
        "bounds_hit": ["ridge"] if found.at_bound else [],
        "halves": _halves(paid, parts),
        "n_features": len(varying),
        **_expected(spread, found),
    }
    return Member(fit.reward(features), mean, covariance, centre), detail


def _reward_map(fit: MemberFit, trunk: FeatureMap) -> FeatureMap:
    columns = _columns(fit.gathered, "reward_inputs", fit.options.reward_inputs)
    return trunk if columns is None else input_map(fit.gathered.inputs, columns)


def _columns(
    gathered: Gathered, name: str, given: Sequence[Sequence[int]] | None
) -> list[int] | None:
    """Return the agent's columns, checked; None: all."""
    if given is None:
        return None
    width, index = gathered.inputs.shape[1], gathered.agent_index
    if len(given) != len(gathered.n_actions):
        raise InputError(
            f"{name} must name the columns of {len(gathered.n_actions)} agents, got {len(given)}"
        )
    columns = list(given[index])
    if not columns or not all(0 <= column < width for column in columns):
        raise InputError(
            f"{name} of agent {index} must be columns 0 to {width - 1}, at least one, got "
            f"{tuple(columns)}"
        )
    return columns


def _moves(fit: MemberFit, values: FloatArray, paid: FloatArray) -> list[Move]:
    gathered, counts = fit.gathered, fit.counts.everything
    shared: dict[str, Any] = {
        "discount": fit.fitting.discount,
        "after": fit.options.rewarded == "after",
    }
    tangent = _tangent(fit)
    found = []
    for stage in range(len(gathered.stages) - 1):
        steps, own = gathered.stages[stage], counts[stage]
        successor = successor_map(steps, own, values, paid, **shared)
        gains = advantages(steps, values, paid, successor, **shared)
        policy = partial(_policy, fit, stage)
        both = own, counts[stage + 1]
        found.append(stage_gradient(gathered, stage, both, gains, tangent, policy))
    return moves_of(found)


def _tangent(fit: MemberFit) -> Callable[[IntArray], FloatArray]:
    """Return psi, the features in which the policy that stands for the learner's is linear."""
    gathered = fit.gathered
    columns = _columns(gathered, "learner_inputs", fit.options.learner_inputs)
    inputs: Features = gathered.inputs if columns is None else gathered.inputs[:, columns]
    read = gathered.read if columns is None else np.ones(len(columns), dtype=np.bool_)
    generator = fit.fitting.generator(*fit.key, 4)
    units = random_map(generator, (UNITS,), inputs, read=read, device=fit.fitting.device)
    return lambda rows: units(inputs[rows])


def _policy(fit: MemberFit, stage: int, rows: IntArray) -> FloatArray:
    return fit.probabilities(rows, stage)[fit.gathered.agent_index]


def _within(fit: MemberFit, paid: FloatArray) -> FloatArray:
    """Return the covariance of the features within episodes, over all steps, `(k, k)`."""
    total, found = 0.0, np.zeros((paid.shape[1], paid.shape[1]))
    for steps, count in zip(fit.gathered.stages, fit.counts.everything, strict=True):
        seen = paid[(steps.after if fit.options.rewarded == "after" else steps.here)[steps.which]]
        weight = (count / np.maximum(steps.counts(), 1.0))[steps.which]
        sizes = np.maximum(np.bincount(steps.block), 1)
        mean = np.stack([np.bincount(steps.block, own) / sizes for own in seen.T], axis=1)
        gap = seen - mean[steps.block]
        found += (gap * weight[:, None]).T @ gap
        total += float(count.sum())
    return found / total


def _mean(fit: MemberFit, paid: FloatArray) -> FloatArray:
    """Return the mean reward features over all steps."""
    total, sums = 0.0, np.zeros(paid.shape[1])
    for steps, count in zip(fit.gathered.stages, fit.counts.everything, strict=True):
        seen = steps.after if fit.options.rewarded == "after" else steps.here
        sums += np.bincount(seen, count, minlength=len(paid)) @ paid
        total += float(count.sum())
    return np.asarray(sums / total)


def _expected(spread: FloatArray, found: MovesFit) -> dict[str, float]:
    """Return what the posterior expects of the reward over the observations.

    `expected` is the Pearson correlation with the ground truth, and `halves_expected` that of the
    rewards of odd and of even moves, whose noise is twice as large.
    """
    signal = float(found.weights @ spread @ found.weights)
    noise = max(float(np.trace(spread @ found.covariance)), 1e-300)
    return {
        "expected": float(np.sqrt(signal / (signal + noise))),
        "halves_expected": signal / (signal + 2 * noise),
    }


def _halves(paid: FloatArray, parts: Sequence[MovesFit]) -> float | None:
    """Return the correlation of the rewards of odd and even moves over the observations."""
    if not parts:
        return None
    one, other = (paid @ part.weights for part in parts)
    if min(one.std(), other.std()) < 1e-12:
        return None
    return float(np.corrcoef(one, other)[0, 1])
