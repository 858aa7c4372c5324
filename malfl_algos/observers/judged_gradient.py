"""The numbers of a verdict on one agent's reward under the rule `policy-gradient`.

The rows are those of `malfl_algos.ma_lfl.policy_gradient`, whose noise is correlated between
states, at the settings that the fit chose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from malfl_algos.ma_lfl.gradient_fit import PRIOR_SETTINGS, hidden_rewards, reward_prior
from malfl_algos.ma_lfl.learner_models import ExactEvaluation
from malfl_algos.ma_lfl.policy_changes import in_states
from malfl_algos.ma_lfl.policy_gradient import (
    GradientRows,
    contrasts,
    coordinate_orders,
    gradient_rows,
)
from malfl_algos.normal import Normal
from malfl_algos.observers.judged_agent import (
    NEEDS_IMPROVEMENTS,
    arrays_of,
    deficit,
    numbers_of_halves,
    other_discounts,
)
from malfl_algos.observers.judged_rows import AgentFit
from malfl_algos.verdict.agreement import agreement, correlation
from malfl_algos.verdict.halves import (
    Improvement,
    determined,
    halves,
    held_out,
    log_evidence,
    mean,
    total,
)
from malfl_env.markov_game import MarkovGame

__all__ = ["numbers_of_gradient"]

FloatArray = NDArray[np.float64]

NOISES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Factors tried on the noise of the fit if there is no reward."""


def numbers_of_gradient(
    fit: AgentFit,
    game: MarkovGame,
    reward: FloatArray | None,
    compared: Callable[[FloatArray], FloatArray],
    n_seen: int,
) -> tuple[dict[str, Any], dict[str, FloatArray]]:
    """The numbers of the verdict and what is drawn, as `judged_agent.numbers_of` gives them.

    Args:
        fit: the fit to judge under; its rule is `policy-gradient`.
        game: the dynamics.
        reward, compared, n_seen: as `judged_agent.numbers_of` takes them.
    """
    if len(fit.stages) < 3:
        why = f"it needs two improvements (3 stages), the trace has {len(fit.stages)} stages"
        return {"missing": dict.fromkeys(NEEDS_IMPROVEMENTS, why)}, {}
    discount = float(fit.settings["discount"])
    rows, shape = _rows(fit, game, discount), game.observation_shape
    prior = _prior_precision(fit, game, rows)
    changes, parts = _parts(fit, rows, shape)
    whole = total(parts)
    predicted_well = held_out(changes, prior, parts)
    agreed = agreement(halves(parts), whole, prior, reward, compared)
    evidence, degrees = log_evidence(whole, prior), max(whole.degrees, 1)
    nothing = max(_no_reward(_parts(fit, rows, shape, noise)[1]) for noise in NOISES)
    others = other_discounts(
        discount,
        evidence,
        lambda one: log_evidence(total(_parts(fit, _rows(fit, game, one), shape)[1]), prior),
    )
    numbers: dict[str, Any] = {
        "rule": fit.settings["rule"],
        "discount": discount,
        "improvement": fit.retained,
        **numbers_of_halves(predicted_well, agreed),
        "gain_over_no_change": (evidence - nothing) / degrees,
        "rows": whole.degrees,
        "stage_noises_spread": 1.0,
        "identified": determined(whole, prior) / max(n_seen - 1, 1),
        **deficit("discount", others, evidence, degrees),
    }
    if reward is not None:
        numbers["agrees_with_posterior_mean"] = correlation(compared(mean(whole, prior)), reward)
    return numbers, arrays_of(fit, changes, prior, parts, compared)


def _prior_precision(fit: AgentFit, game: MarkovGame, rows: Sequence[GradientRows]) -> FloatArray:
    n_actions = fit.policies[fit.index].shape[-1]
    prior = reward_prior(game, fit.features, fit.settings["reward_model"], n_actions, game.n_states)
    if fit.features is None:
        prior = replace(prior, hidden=hidden_rewards(rows))
    chosen = fit.settings["prior"]
    logs = np.log([chosen[name] for name in PRIOR_SETTINGS if name in chosen])
    covariance, _ = prior.covariance(logs)
    return np.asarray(scipy.linalg.inv(covariance))


def _rows(fit: AgentFit, game: MarkovGame, discount: float) -> list[GradientRows]:
    """The rows of every improvement under a discount."""
    evaluation = ExactEvaluation(game, fit.settings["reward_model"], discount, 1.0)
    orders = coordinate_orders(game.observation_shape)
    joint = [[policy[h] for policy in fit.policies] for h in range(len(fit.stages))]
    said = fit.responses()
    return [
        gradient_rows(
            evaluation,
            (fit.stages[h], fit.stages[h + 1]),
            (joint[h], joint[h + 1]),
            fit.index,
            orders,
            change=said[h + 1][0] - said[h][0],
            variances=(said[h][1], said[h + 1][1]),
            linked=False,
            features=fit.features,
            logits=fit.settings["logits"],
        )
        for h in range(len(fit.stages) - 1)
    ]


def _parts(
    fit: AgentFit, rows: Sequence[GradientRows], shape: Sequence[int], noise: float = 1.0
) -> tuple[list[Improvement], list[Normal]]:
    """Every improvement by state and action, and the sums of its rows.

    Args:
        rows: of every improvement.
        shape: number of values of every coordinate of the state.
        noise: factor on the noise of the sampled gradient.
    """
    n_states, n_actions = fit.policies[fit.index].shape[1:]
    orders, frame = coordinate_orders(shape), contrasts(n_actions)
    number = np.repeat(orders.order, n_actions - 1)
    said = fit.responses()
    changes, parts = [], []
    for h, own in enumerate(rows):
        weights, rest = (
            np.array(fit.settings[name][h])[number] for name in ("order_weights", "order_rest")
        )
        coefficients = weights[:, None] * own.gradient
        sampled = noise * fit.settings["stage_noise"][h] * np.outer(weights, weights)
        learning = sampled * own.sampling + np.diag(rest)
        counting = said[h][1] + said[h + 1][1]
        seen = int(np.isfinite(counting).any(axis=1).sum())
        parts.append(_sums(coefficients, own, learning, seen * (n_actions - 1)))
        _, spread = in_states(own.change, learning, orders, n_actions)
        table = np.tensordot(orders.basis, coefficients.reshape(n_states, n_actions - 1, -1), 1)
        by_action = np.einsum("ca,sck->sak", frame, table)
        changes.append(
            Improvement(by_action, said[h + 1][0] - said[h][0], counting, spread, spread)
        )
    return changes, parts


def _sums(
    coefficients: FloatArray, rows: GradientRows, learning: FloatArray, degrees: int
) -> Normal:
    factor = scipy.linalg.cho_factor(rows.estimation + learning, lower=True)
    solved = scipy.linalg.cho_solve(factor, np.column_stack([coefficients, rows.change]))
    log_norm = -np.log(np.diag(factor[0])).sum() - len(rows.change) * np.log(2 * np.pi) / 2
    information = coefficients.T @ solved[:, :-1]
    return Normal(
        (information + information.T) / 2,
        coefficients.T @ solved[:, -1],
        float(rows.change @ solved[:, -1]),
        float(log_norm),
        degrees,
    )


def _no_reward(parts: list[Normal]) -> float:
    """Log evidence if the policies only drift."""
    return sum(own.log_norm - own.squares / 2 for own in parts)
