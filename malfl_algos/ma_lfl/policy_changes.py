"""How far an agent's policy moves from stage to stage, estimated from counts and a prediction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from malfl_algos.ma_lfl.alternation import KNOWN_VARIANCE
from malfl_algos.ma_lfl.gradient_inference import GradientPosterior
from malfl_algos.ma_lfl.policy_estimation import working_response
from malfl_algos.ma_lfl.policy_gradient import UNSEEN, Orders, contrasts

__all__ = ["Changes", "changes_of", "in_states", "known_changes"]

FloatArray = NDArray[np.float64]

STARTS = tuple(10.0 ** np.arange(-4, 2))
"""Variances of log pi about a constant in the first stage, from which the evidence chooses."""
LINKED = 0.02
"""See `_noisy`."""
FIRST_SPREAD = 1.0
"""Variance of a stage's change of log pi, before the first fit."""


@dataclass(frozen=True, eq=False)
class Changes:
    """What counts and prediction say together about the policies of an agent.

    Args:
        change: of log pi from stage to stage, `(n_stages - 1, n_states, n_actions)`.
        variances: of the errors of log pi before and after a change, each of the same shape;
            infinite in states that were not visited.
        linked: whether the error after one change is the error before the next one.
        policies: at the mode, `(n_stages, n_states, n_actions)`.
        log_constant: turns the evidence of the changes into that of the counts.
    """

    change: FloatArray
    variances: tuple[FloatArray, FloatArray]
    linked: bool
    policies: FloatArray
    log_constant: float


def changes_of(counts: FloatArray, last: GradientPosterior | None, orders: Orders) -> Changes:
    """Estimate the policies of one stage after the other from counts and prediction.

    A policy that is estimated badly makes one change too large and the next one too small. This
    correlation is kept if errors are a part of the changes that counts. Otherwise it would only
    cost time, and every policy is taken with what the stages before it say about it.
    """
    before, error = _first_policy(counts[0])
    policies = [softmax(before, axis=1)]
    seen_before, seen_error = [before], [error]  # what the counts alone say
    known_before, known_error = [before], [error]  # with the prediction
    n_states, n_actions = before.shape
    constant = 0.0
    for h, n in enumerate(counts[1:]):
        drift, spread = np.zeros(before.shape), np.full(before.shape, FIRST_SPREAD)
        if last is not None:
            drift, spread = in_states(last.predicted[h], last.spread[h], orders, n_actions)
        spread = spread + known_error[-1]
        response, policy = working_response(known_before[-1] + drift, spread, n, temperature=1.0)
        seen_before.append(response.mean)
        seen_error.append(response.variance)
        known_before.append(np.log(np.maximum(policy, 1e-300)))
        known_error.append(1 / (1 / response.variance + 1 / spread))
        policies.append(policy)
        seen = int((n.sum(axis=1) > 0).sum())
        constant += response.log_constant - seen * np.log(n_actions) / 2
        unseen = (n_states - seen) * (n_actions - 1)
        constant += unseen * np.log(2 * np.pi * UNSEEN) / 2  # these rows say nothing
    seen_means, errors = np.array(seen_before), np.array(seen_error)
    linked = _noisy(seen_means, errors)
    earlier = seen_before if linked else known_before
    doubts = errors if linked else np.array(known_error)
    return Changes(
        seen_means[1:] - np.array(earlier)[:-1],
        (doubts[:-1], errors[1:]),
        linked,
        np.array(policies),
        constant,
    )


def _first_policy(counts: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Estimate log pi of the first stage, and its variance.

    Learners mostly start near the uniform policy. How near is chosen by the evidence of the counts
    (Laplace's approximation): the variance of log pi about a constant.
    """
    best = -np.inf
    total = counts.sum(axis=1, keepdims=True)
    for spread in STARTS:
        about = np.full(counts.shape, spread)
        _, policy = working_response(np.zeros(counts.shape), about, counts, temperature=1.0)
        logs = np.log(policy)
        logs = logs - logs.mean(axis=1, keepdims=True)
        value = (counts * np.log(policy)).sum() - (logs**2).sum() / spread / 2
        value -= np.log1p(spread * total * policy).sum() / 2
        if value > best:
            best, found, error = value, logs, 1 / (total * policy + 1 / spread)
    return found, error


def _noisy(logs: FloatArray, errors: FloatArray) -> bool:
    """Whether errors of log pi make up more than `LINKED` of the mean square of its changes."""
    seen = np.isfinite(errors[1:]) & np.isfinite(errors[:-1])
    change = np.diff(logs, axis=0)
    change = change - change.mean(axis=-1, keepdims=True)
    weight = np.where(seen, 1 / (errors[1:] + errors[:-1]), 0.0)
    return bool(weight.sum() > 0 and seen.sum() > LINKED * (weight * change**2).sum())


def known_changes(policies: FloatArray) -> Changes:
    logs = np.log(np.maximum(policies, 1e-300))
    change = np.diff(logs, axis=0)
    certain = np.full(change.shape, KNOWN_VARIANCE)
    return Changes(change, (certain, certain), False, policies, 0.0)


def in_states(
    predicted: FloatArray, spread: FloatArray, orders: Orders, n_actions: int
) -> tuple[FloatArray, FloatArray]:
    """Expected change and its variance by state and action, from those of the rows."""
    frame, basis, n_states = contrasts(n_actions), orders.basis, len(orders.basis)
    change = basis @ predicted.reshape(n_states, -1) @ frame
    table = spread.reshape(n_states, n_actions - 1, n_states, n_actions - 1)
    variance = np.zeros(change.shape)
    for i, own in enumerate(frame):
        for j, other in enumerate(frame):
            block = ((basis @ table[:, i, :, j]) * basis).sum(axis=1)
            variance += block[:, None] * (own * other)
    return change, np.maximum(variance, 1e-12)
