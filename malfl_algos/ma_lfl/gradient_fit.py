"""Fit rewards of policy-gradient learners: the changes of policy from counts, then the reward.

The counterpart of `alternation` for the learner model of `policy_gradient`. Each iteration expands
the likelihood of the counts about the policies that the last fit predicts, and fits again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.alternation import CONVERGED, AgentFit
from malfl_algos.ma_lfl.gradient_inference import GradientPosterior, fit_gradient
from malfl_algos.ma_lfl.gradient_settings import NETWORK, REPLAYED, TABLE, Policy
from malfl_algos.ma_lfl.learner_models import ExactEvaluation
from malfl_algos.ma_lfl.policy_changes import Changes, changes_of, known_changes
from malfl_algos.ma_lfl.policy_estimation import CONCENTRATION, smoothed_policy
from malfl_algos.ma_lfl.policy_gradient import (
    GradientRows,
    Logits,
    Orders,
    coordinate_orders,
    gradient_rows,
)
from malfl_algos.ma_lfl.posterior import Evidence, Posterior
from malfl_algos.ma_lfl.reward_models import OF_STATES, RewardModel
from malfl_algos.ma_lfl.reward_priors import RewardPrior, prior_of_states, prior_of_weights
from malfl_algos.ma_lfl.settings import GRADIENT
from malfl_algos.ma_lfl.stages import StageArrays
from malfl_env.markov_game import MarkovGame

__all__ = ["PRIOR_SETTINGS", "TABLE_ROWS", "fit_policy_gradient", "hidden_rewards", "reward_prior"]

FloatArray = NDArray[np.float64]

PRIOR_SETTINGS = ("prior_variance", "prior_variance_smooth", "prior_length")
"""Names of the settings of a `RewardPrior` in the diagnostics."""
TABLE_ROWS = 150
"""Up to this many joint states times actions but one, the policy may be a table."""
HIDDEN = 1e-5
"""Rewards whose squared gradient is below this share of the largest one leave no trace. It makes no
difference to the evidence, but keeps the prior from inventing such rewards.
"""
NETWORK_MARGIN = 10.0
"""A network, with more settings, must raise the log evidence of a table by more than this."""
PASSES = 3
"""Largest number of iterations: after the first one only rarely played actions move."""
FIRST_ITERATIONS, LATER_ITERATIONS = 30, 15
"""Steps of the search for the settings, in the first iteration and in each later one."""
SCALE_REASON = (
    "the size of a gradient learner's steps is not known, so only reward times step is; the unit "
    "of the reward is that of typical steps of size 1"
)


def fit_policy_gradient(
    stages: Sequence[StageArrays],
    game: MarkovGame,
    model: RewardModel,
    *,
    discount: float,
    known_policies: Sequence[FloatArray | None],
    features: Sequence[FloatArray | None],
    passes: int,
) -> list[AgentFit]:
    """Fit every agent's reward.

    Args:
        stages: at least two stages.
        game: the dynamics; its observations number the states by coordinates.
        model: the reward model, `state` or `own_action`; any, if there are features.
        discount: gamma.
        known_policies, features, passes: as `malfl_algos.ma_lfl.alternation.alternate` takes them;
            at most `PASSES` are made.

    Returns:
        One fit per agent. The evidence is that of the counts of all stages after the first, at the
        settings of largest posterior density.
    """
    evaluation = ExactEvaluation(game, model, discount, 1.0, name=GRADIENT)
    orders = coordinate_orders(game.observation_shape)
    counts = [
        np.stack([stage.action_counts(index) for stage in stages]) for index in range(game.n_agents)
    ]
    policies = [
        smoothed_policy(own, pseudo_count=CONCENTRATION) if known is None else known
        for own, known in zip(counts, known_policies, strict=True)
    ]
    priors = [
        reward_prior(game, own, model, n, game.n_states)
        for own, n in zip(features, game.n_actions, strict=True)
    ]
    replayed = model == "state" and all(stage.steps is not None for stage in stages[:-1])
    last: list[GradientPosterior | None] = [None] * game.n_agents
    chosen: list[Logits | None] = [None] * game.n_agents
    fits: list[AgentFit] = []
    for number in range(min(passes, PASSES)):
        changes = [
            known_changes(policies[index])
            if known is not None
            else changes_of(counts[index].astype(float), last[index], orders)
            for index, known in enumerate(known_policies)
        ]
        policies = [one.policies for one in changes]
        fits = []
        for index, own in enumerate(changes):
            before, found, logits = last[index], None, None
            for kind in _parameters(chosen[index], counts[index].shape, replayed=replayed):
                rows = _rows(
                    evaluation, stages, policies, index, orders, own, features[index], logits=kind
                )
                if before is None and features[index] is None:
                    priors[index] = replace(priors[index], hidden=hidden_rewards(rows))
                policy = _policy(kind)
                tried = _fitted(rows, orders, priors[index], before, policy)
                margin = NETWORK_MARGIN if kind == "network" and found is not None else 0.0
                if found is None or tried.log_evidence > found.log_evidence + margin:
                    found, logits = tried, kind
            assert found is not None
            last[index], chosen[index] = found, logits
            moved = np.inf if before is None else _distance(found, before)
            fit = _agent_fit(found, priors[index], own, evaluation, number + 1, moved < CONVERGED)
            fits.append(replace(fit, further={**fit.further, "logits": logits}))
        if all(one.converged for one in fits):
            break
    return fits


def hidden_rewards(rows: Sequence[GradientRows]) -> FloatArray:
    """Projection onto the rewards with no advantage in any stage, such as functions of what an
    agent's actions do not influence, `(n_unknowns, n_unknowns)`.
    """
    sizes = [max(float((own.gradient**2).sum()), 1e-300) for own in rows]  # 0: no advantage at all
    table = sum(own.gradient.T @ own.gradient / size for own, size in zip(rows, sizes, strict=True))
    values, vectors = np.linalg.eigh(np.asarray(table))
    unseen = vectors[:, values < HIDDEN * values[-1]]
    return np.asarray(unseen @ unseen.T)


def _policy(logits: Logits) -> Policy:
    if logits == "network":
        return NETWORK
    return REPLAYED if "replayed" in logits else TABLE


def _parameters(
    chosen: Logits | None, shape: tuple[int, ...], *, replayed: bool
) -> tuple[Logits, ...]:
    """The parameters to choose from: those that were chosen, or all that are worth their time.

    Args:
        chosen: what an earlier iteration chose.
        shape: of an agent's counts, `(n_stages, n_states, n_actions)`.
        replayed: whether gradients can be those of the learner's own episodes.
    """
    if chosen is not None:
        return (chosen,)
    if shape[1] * (shape[2] - 1) > TABLE_ROWS:
        return ("network",)
    own: tuple[Logits, ...] = ("table, replayed", "table, last fixed, replayed") if replayed else ()
    return ("table", "table, last fixed", *own, "network")


def _rows(
    evaluation: ExactEvaluation,
    stages: Sequence[StageArrays],
    policies: Sequence[FloatArray],
    index: int,
    orders: Orders,
    own: Changes,
    features: FloatArray | None,
    *,
    logits: Logits,
) -> list[GradientRows]:
    joint = [[policy[h] for policy in policies] for h in range(len(stages))]
    return [
        gradient_rows(
            evaluation,
            (stages[h], stages[h + 1]),
            (joint[h], joint[h + 1]),
            index,
            orders,
            change=own.change[h],
            variances=(own.variances[0][h], own.variances[1][h]),
            linked=own.linked and h > 0,
            features=features,
            logits=logits,
        )
        for h in range(len(stages) - 1)
    ]


def reward_prior(
    game: MarkovGame | None,
    features: FloatArray | None,
    model: RewardModel,
    n_actions: int,
    n_states: int,
) -> RewardPrior:
    """The prior of an agent's unknowns; without a game, states have no coordinates."""
    if features is not None:
        return prior_of_weights(features)
    states = np.arange(n_states)
    coordinates = states[:, None] if game is None else game.observation(states)
    return prior_of_states(coordinates, per_state=1 if model in OF_STATES else n_actions)


def _fitted(
    rows: Sequence[GradientRows],
    orders: Orders,
    prior: RewardPrior,
    before: GradientPosterior | None,
    policy: Policy,
) -> GradientPosterior:
    start = None if before is None else before.settings
    iterations = FIRST_ITERATIONS if start is None else LATER_ITERATIONS
    return fit_gradient(
        rows, orders.order, prior, start=start, iterations=iterations, policy=policy
    )


def _distance(now: GradientPosterior, before: GradientPosterior) -> float:
    moved = now.mean - before.mean
    return float(np.sqrt(moved @ now.precision @ moved / len(moved)))


def _agent_fit(
    found: GradientPosterior,
    prior: RewardPrior,
    changes: Changes,
    evaluation: ExactEvaluation,
    number: int,
    converged: bool,
) -> AgentFit:
    settings = found.settings
    lows, highs = np.array(prior.bounds).T
    at_bound = (settings.prior <= lows + 0.05) | (settings.prior >= highs - 0.05)
    names = PRIOR_SETTINGS[: len(settings.prior)]
    evidence = Evidence(
        float(found.log_evidence + changes.log_constant),
        float(np.exp(settings.noise.mean())),
        1.0,
        float(np.exp(settings.prior[:2]).sum()),
        tuple(name for name, hit in zip(names, at_bound, strict=True) if hit),
        retained=1.0,
    )
    further = {
        "scale": "open",
        "scale_reason": SCALE_REASON,
        "order_weights": np.exp(settings.weights).tolist(),
        "order_rest": np.exp(settings.rest).tolist(),
        "stage_noise": np.exp(settings.noise).tolist(),
        "prior": dict(zip(names, np.exp(settings.prior).tolist(), strict=True)),
    }
    posterior = Posterior(found.mean, found.precision, found.information, evidence)
    return AgentFit(posterior, changes.policies, evaluation, number, converged, further=further)
