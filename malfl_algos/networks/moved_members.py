"""Fit one member of the ensemble from the moves of the policies (`form: moves`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.networks.features import FeatureMap, input_map
from malfl_algos.networks.gathering import IntArray
from malfl_algos.networks.move_values import action_differences, onward, rows_of, successor_map
from malfl_algos.networks.moves import Move, MovesFit, fit_moves, move_of
from malfl_algos.networks.recovered_functions import Member
from malfl_env.errors import InputError

if TYPE_CHECKING:
    from malfl_algos.networks.members import MemberFit

__all__ = ["fit_moved"]

FloatArray = NDArray[np.float64]


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
    varying = np.flatnonzero(features.scale > 0)
    if len(varying) == 0:
        raise InputError(
            f"no reward feature of agent {gathered.agent_index} varies; choose other reward_inputs"
        )
    values, paid = trunk(gathered.inputs), features(gathered.inputs)[:, varying]
    moves = _moves(fit, values, paid)
    spread = np.cov(paid.T).reshape(paid.shape[1], -1)
    found = fit_moves(moves, spread)
    parts: Sequence[MovesFit] = []
    if len(moves) >= 4:
        parts = [fit_moves(moves[::2], spread), fit_moves(moves[1::2], spread)]
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
    given, gathered = fit.options.reward_inputs, fit.gathered
    if given is None:
        return trunk
    width, index = gathered.inputs.shape[1], gathered.agent_index
    if len(given) != len(gathered.n_actions):
        raise InputError(
            f"reward_inputs must name the columns of {len(gathered.n_actions)} agents, got "
            f"{len(given)}"
        )
    columns = given[index]
    if not columns or not all(0 <= column < width for column in columns):
        raise InputError(
            f"reward_inputs of agent {index} must be columns 0 to {width - 1}, at least one, got "
            f"{columns}"
        )
    return input_map(gathered.inputs, columns)


def _moves(fit: MemberFit, values: FloatArray, paid: FloatArray) -> list[Move]:
    gathered, counts = fit.gathered, fit.counts.everything
    shared: dict[str, Any] = {
        "discount": fit.fitting.discount,
        "after": fit.options.rewarded == "after",
    }
    maps = onward(gathered, counts, values, paid)
    rng = np.random.default_rng(fit.fitting.sequence(*fit.key, 4))
    found = []
    for stage in range(len(gathered.stages) - 1):
        rows = rows_of(gathered, stage, fit.options.max_rows, rng)
        successor = successor_map(gathered, counts[stage], stage, values, paid, **shared)
        gains = action_differences(maps, successor, values[rows], **shared)
        before, after = (_log_policy(fit, rows, h) for h in (stage, stage + 1))
        found.append(move_of(gains, before, after))
    return found


def _log_policy(fit: MemberFit, rows: IntArray, stage: int) -> FloatArray:
    policy = fit.probabilities(rows, stage)[fit.gathered.agent_index]
    return np.asarray(np.log(np.maximum(policy, 1e-300)))


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
