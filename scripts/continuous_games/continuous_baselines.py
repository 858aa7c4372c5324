"""Other observers in their smallest form on observations: linear in the features that ours has.

Each takes the estimated policies of the network observer and the same reward features, and returns
the weights of a reward of the observation after the step. `chosen` are the stages that it uses
(`trex`), or the stages whose moves it uses (`lfl`, `logel`: of all but the last).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from malfl_algos.baselines.ranking import fit_ranking, pairs_of_steps

__all__ = ["BASELINES", "AgentSteps", "lfl_weights", "logel_weights", "trex_weights"]

FloatArray = NDArray[np.float64]

RIDGE = 1e-3
PAIRS, PAIRS_RIDGE = 5000, 10.0
"""As `trex` has them, for features whose variances sum to 1."""


@dataclass(frozen=True, eq=False)
class AgentSteps:
    """The steps of one agent in one stage.

    Args:
        seen: observations and reward features before the steps, standardised, and 1: `(n, k)`.
        seen_after: the same after the steps.
        features: reward features after the steps, standardised, `(n, m)`.
        actions: own actions `(n,)`.
        ends: whether an episode ends `(n,)`.
        log_policies: of this stage and of the next one after the steps, each `(n, n_actions)`.
        played: log-probability of the action under the next stage's policy `(n,)`.
    """

    seen: FloatArray
    seen_after: FloatArray
    features: FloatArray
    actions: NDArray[np.int64]
    ends: NDArray[np.bool_]
    log_policies: tuple[FloatArray, FloatArray]
    played: FloatArray


def trex_weights(
    stages: Sequence[AgentSteps], chosen: Sequence[int], discount: float, rng: np.random.Generator
) -> FloatArray:
    """T-REX (Brown et al. 2019): pieces of later stages have a higher sum of rewards."""
    stages = [stages[stage] for stage in chosen]
    sizes = np.cumsum([0, *(len(own.actions) for own in stages)])
    pairs = pairs_of_steps(
        [np.arange(a, b) for a, b in itertools.pairwise(sizes)],
        [own.ends for own in stages],
        n_rows=int(sizes[-1]),
        n_pairs=PAIRS,
        length=50,
        rng=rng,
    )
    features = np.concatenate([own.features for own in stages])
    design = np.asarray(pairs @ features) / np.sqrt(features.shape[1])
    return fit_ranking(design, ridge=PAIRS_RIDGE).weights


def lfl_weights(
    stages: Sequence[AgentSteps], chosen: Sequence[int], discount: float, rng: np.random.Generator
) -> FloatArray:
    """Learning from a learner (Jacq et al. 2019): soft improvement, with free potentials.

    Least squares of (11)-(12), in units of the temperature: w . phi(o') + g_h(o) - gamma g_h(o') =
    log pi_{h+1}(a | o) + gamma KL(pi_h(o') || pi_{h+1}(o')), with g_h linear for every stage.
    """
    k = stages[0].features.shape[1]
    second, cross = np.zeros((k, k)), np.zeros(k)
    for own in (stages[stage] for stage in chosen):
        now, following = own.log_policies
        divergence = (np.exp(now) * (now - following)).sum(axis=1)
        target = own.played + discount * divergence
        potential = own.seen - discount * own.seen_after
        inner = potential.T @ potential
        inner += RIDGE * np.trace(inner) / len(inner) * np.eye(len(inner))
        both = np.column_stack([own.features, target])
        both = both - potential @ np.linalg.solve(inner, potential.T @ both)
        second += both[:, :k].T @ both[:, :k]
        cross += both[:, :k].T @ both[:, k]
    return np.linalg.solve(second + RIDGE * np.trace(second) / k * np.eye(k), cross)


def logel_weights(
    stages: Sequence[AgentSteps], chosen: Sequence[int], discount: float, rng: np.random.Generator
) -> FloatArray:
    """LOGEL (Ramponi et al. 2020): moves of policy parameters are gradients of a linear reward.

    The parameters are those of a softmax of linear functions, cloned stage by stage. The gradients
    of the expected features are those of GPOMDP; one learning rate serves all stages.
    """
    n_actions = stages[0].log_policies[0].shape[1]
    clones = {
        stage: _cloned(stages[stage], n_actions) for move in chosen for stage in (move, move + 1)
    }
    k = stages[0].features.shape[1]
    second, cross = np.zeros((k, k)), np.zeros(k)
    for stage in chosen:
        own, theta, following = stages[stage], clones[stage], clones[stage + 1]
        slope = np.eye(n_actions)[own.actions] - softmax(own.seen @ theta, axis=1)
        onward, weight = _returns(own, discount)
        gain = weight[:, None] * onward
        gradient = np.stack(
            [own.seen.T @ (slope[:, action, None] * gain) for action in range(n_actions)], axis=1
        ).reshape(-1, k) / len(own.actions)
        second += gradient.T @ gradient
        cross += gradient.T @ (following - theta).reshape(-1)
    return np.linalg.solve(second + RIDGE * np.trace(second) / k * np.eye(k), cross)


BASELINES: dict[str, Callable[..., FloatArray]] = {
    "trex": trex_weights,
    "lfl": lfl_weights,
    "logel": logel_weights,
}


@cache
def _cloned(own: AgentSteps, n_actions: int) -> FloatArray:
    """Return the parameters `(k, n_actions)` of largest likelihood, with a small ridge."""
    n, k = own.seen.shape
    played = np.eye(n_actions)[own.actions]

    def loss(flat: FloatArray) -> tuple[float, FloatArray]:
        theta = flat.reshape(k, n_actions)
        log_policy = log_softmax(own.seen @ theta, axis=1)
        slope = own.seen.T @ (np.exp(log_policy) - played) / n + RIDGE * theta
        value = -(played * log_policy).sum() / n + 0.5 * RIDGE * (flat @ flat)
        return float(value), slope.ravel()

    found = minimize(loss, np.zeros(k * n_actions), jac=True, method="L-BFGS-B")
    return np.asarray(found.x).reshape(k, n_actions)


def _returns(own: AgentSteps, discount: float) -> tuple[FloatArray, FloatArray]:
    """Return discounted sums of features onward, less their mean at that step, and gamma^t."""
    begins = np.flatnonzero(np.append(True, own.ends[:-1]))
    lengths: Any = np.diff(np.append(begins, len(own.ends)))
    step = np.arange(len(own.ends)) - np.repeat(begins, lengths)
    onward = own.features.copy()
    for time in range(int(lengths.max()) - 2, -1, -1):
        rows = np.flatnonzero((step == time) & ~own.ends)
        onward[rows] += discount * onward[rows + 1]
    for time in range(int(lengths.max())):
        rows = step == time
        onward[rows] -= onward[rows].mean(axis=0)
    return onward, np.asarray(discount**step, dtype=np.float64)
