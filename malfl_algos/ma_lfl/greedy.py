"""Epsilon-greedy choice of actions: what the counts of a stage say about action values.

P(a | s) = (1 - epsilon) [a is greedy] + epsilon / |A|, where the greedy action has the largest q +
noise. With Gumbel noise an action is greedy with probability softmax(x)(a), x = q / alpha (McFadden
1974); alpha is here the size of the noise, which is open: so is the scale of the reward, and only q
in units of that noise is found.

- Policy frozen within a stage: the greedy action of a state is drawn once. With ell(g) the log
  probability of the stage's counts if g is greedy, the likelihood is sum_g softmax(x)(g) exp
  ell(g).
- Policy that moves: the greedy action changes within the stage, and an action is played with
  probability (1 - epsilon) softmax(x)(a) + epsilon / |A|.

Both likelihoods are mixtures. Their mode is found by expectation maximisation (Dempster, Laird and
Rubin 1977), in which the expected plays of greedy actions take the place of the counts.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, log_softmax, logsumexp

from malfl_algos.ma_lfl.policy_estimation import Response, working_response

__all__ = [
    "CHOICES",
    "Choice",
    "GreedyFit",
    "exploration",
    "exploration_spread",
    "greedy_log_likelihood",
    "greedy_response",
    "likeliest_greedy",
]

FloatArray = NDArray[np.float64]
Choice = Literal["soft", "greedy"]

CHOICES: tuple[Choice, ...] = ("soft", "greedy")
ITERATIONS = 60
LEAST_EPSILON = 1e-4
MOST_EPSILON = 1 - 1e-4
"""Bounds of epsilon. With 0 a single odd play would be impossible, with 1 nothing is greedy."""
SEEN, FEWEST_STATES = 50, 10
"""Visits of a state, and number of such states, from which `exploration_spread` is measured."""
LEAST_INFORMATION = 1e-9
"""Least information about an action, in plays."""


class GreedyFit(NamedTuple):
    """What the counts say about x, expanded about the joint mode of counts and prediction.

    Args:
        response: the working response; see `malfl_algos.ma_lfl.policy_estimation.Response`.
        policy: probability of each action, exploration included, same shape as the counts.
        greedy: probability that an action is greedy, same shape.
        epsilon: of each stage, `(n_stages,)`.
    """

    response: Response
    policy: FloatArray
    greedy: FloatArray
    epsilon: FloatArray


def exploration(counts: FloatArray) -> FloatArray:
    """First estimate of epsilon for every stage: from the two least played actions of each state.

    The median over states, weighted with visits, so that states in which all actions are equally
    good do not matter.

    Args:
        counts: `(n_stages, n_states, n_actions)`.

    Returns:
        `(n_stages,)`, in (0, 1).
    """
    n_actions = counts.shape[-1]
    visits = counts.sum(axis=-1)
    least = np.sort(counts, axis=-1)[..., : max(min(2, n_actions - 1), 1)].mean(axis=-1)
    rates = n_actions * least / np.maximum(visits, 1)
    order = np.argsort(rates, axis=-1)
    reached = np.cumsum(np.take_along_axis(visits, order, axis=-1), axis=-1)
    middle = (reached < reached[:, -1:] / 2).sum(axis=-1)
    found = np.take_along_axis(rates, np.take_along_axis(order, middle[:, None], axis=-1), axis=-1)
    return np.asarray(np.clip(found[:, 0], LEAST_EPSILON, MOST_EPSILON))


def exploration_spread(counts: FloatArray) -> float:
    """How far the share of the least played actions differs between states; 1 if epsilon-greedy
    choices are frozen within a stage, since such learners explore alike in every state.

    Args:
        counts: of one agent, `(n_stages, n_states, n_actions)`.

    Returns:
        Pearson's statistic of the plays of the lesser half of the actions, per state: the mean over
        the states that a stage visits 50 times, and the median over the stages after the first. 0
        where there are fewer than 3 actions or 10 such states.
    """
    if counts.shape[-1] < 3:
        return 0.0
    found = []
    for stage in counts[1:]:
        visits = stage.sum(axis=-1)
        seen = visits >= SEEN
        n, least = visits[seen], np.sort(stage[seen], axis=-1)[:, : stage.shape[-1] // 2].sum(-1)
        share = least.sum() / max(n.sum(), 1)
        if seen.sum() >= FEWEST_STATES and 0 < share < 1:
            found.append(float(((least - n * share) ** 2 / (n * share * (1 - share))).mean()))
    return float(np.median(found)) if found else 0.0


def greedy_log_likelihood(
    x: FloatArray, counts: FloatArray, epsilon: FloatArray, *, moving: bool
) -> FloatArray:
    """Log probability of the counts of every state, given its number of visits.

    Args:
        x: q / alpha, `(..., n_actions)`.
        counts: same shape.
        epsilon: broadcast with `x`, in (0, 1).
        moving: whether the greedy action changes within the stage; see above.

    Returns:
        `(...)`, with all constants.
    """
    n_actions = counts.shape[-1]
    log_greedy = log_softmax(x, axis=-1)
    visits = counts.sum(axis=-1)
    orders = gammaln(visits + 1) - gammaln(counts + 1).sum(axis=-1)
    if moving:
        play = (1 - epsilon) * np.exp(log_greedy) + epsilon / n_actions
        return np.asarray(orders + (counts * np.log(play)).sum(axis=-1))
    classes = _if_greedy(counts, epsilon)
    return np.asarray(orders + logsumexp(log_greedy + classes, axis=-1))


def greedy_response(
    prior_mean: FloatArray,
    prior_variance: FloatArray,
    counts: FloatArray,
    epsilon: FloatArray,
    *,
    temperature: float,
    moving: bool,
) -> GreedyFit:
    """Mode of alpha x for epsilon-greedy counts and a Gaussian prior, and epsilon of every stage.

    Args:
        prior_mean, prior_variance: of alpha x, `(n_stages, n_states, n_actions)`.
        counts: same shape.
        epsilon: first estimate, `(n_stages,)`.
        temperature: alpha > 0.
        moving: whether the greedy action changes within a stage.
    """
    x = prior_mean / temperature
    for _ in range(ITERATIONS):
        plays, epsilon = _expected_plays(x, counts, epsilon, moving=moving)
        _, policy = working_response(prior_mean, prior_variance, plays, temperature=temperature)
        following = np.log(np.maximum(policy, 1e-300))
        moved = np.abs(policy - np.exp(log_softmax(x, axis=-1))).max(initial=0.0)
        x = following
        if moved < 1e-7:
            break
    return _expanded(x, counts, epsilon, temperature=temperature, moving=moving)


def likeliest_greedy(
    counts: FloatArray, epsilon: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Which actions were greedy in stages with a frozen policy, while nothing is known of q.

    Args:
        counts: `(n_stages, n_states, n_actions)`.
        epsilon: first estimate, `(n_stages,)`.

    Returns:
        For each action the log probability of the state's counts, without their orders, if it is
        greedy, shape of `counts`; the policies; and epsilon.
    """
    flat = np.zeros(counts.shape)
    plays = flat
    for _ in range(ITERATIONS):
        before = epsilon
        plays, epsilon = _expected_plays(flat, counts, epsilon, moving=False)
        if np.abs(epsilon - before).max(initial=0.0) < 1e-7:
            break
    rate = epsilon[:, None, None]
    n_actions = counts.shape[-1]
    seen = counts.sum(axis=-1, keepdims=True) > 0
    policy = (1 - rate) * np.where(seen, plays, 1 / n_actions) + rate / n_actions
    return _if_greedy(counts, rate), policy, epsilon


def _if_greedy(counts: FloatArray, epsilon: FloatArray) -> FloatArray:
    """Log probability of the counts, without their orders, for each greedy action."""
    n_actions = counts.shape[-1]
    other = np.log(epsilon / n_actions)
    excess = np.log(1 - epsilon + epsilon / n_actions) - other
    return np.asarray(counts * excess + counts.sum(axis=-1, keepdims=True) * other)


def _expected_plays(
    x: FloatArray, counts: FloatArray, epsilon: FloatArray, *, moving: bool
) -> tuple[FloatArray, FloatArray]:
    """Expected plays (or draws) of greedy actions, and the next estimate of epsilon.

    If the greedy action changes, epsilon comes out low: actions that are rarely greedy take some of
    its place.
    """
    n_actions = counts.shape[-1]
    rate = epsilon[:, None, None]
    log_greedy = log_softmax(x, axis=-1)
    visits = counts.sum(axis=-1, keepdims=True)
    if moving:
        greedy = (1 - rate) * np.exp(log_greedy)
        share = greedy / (greedy + rate / n_actions)
        plays = counts * share
        explored = (counts - plays).sum(axis=(1, 2)) / np.maximum(visits.sum(axis=(1, 2)), 1)
        return plays, np.clip(explored, LEAST_EPSILON, MOST_EPSILON)
    plays = np.exp(log_softmax(log_greedy + _if_greedy(counts, rate), axis=-1)) * (visits > 0)
    missed = (visits - (plays * counts).sum(axis=-1, keepdims=True)).sum(axis=(1, 2))
    found = missed / np.maximum(visits.sum(axis=(1, 2)), 1) * n_actions / max(n_actions - 1, 1)
    return plays, np.clip(found, LEAST_EPSILON, MOST_EPSILON)


def _expanded(
    x: FloatArray, counts: FloatArray, epsilon: FloatArray, *, temperature: float, moving: bool
) -> GreedyFit:
    """The Gaussian that has the likelihood's value and slope at x, and its expected curvature.

    The curvature is that of `information` plays of each action, minus what their common factor
    takes: exact for a single action against all others, approximate if several are uncertain.
    """
    n_actions = counts.shape[-1]
    rate = epsilon[:, None, None]
    greedy = np.exp(log_softmax(x, axis=-1))
    plays, _ = _expected_plays(x, counts, epsilon, moving=moving)
    visits = counts.sum(axis=-1, keepdims=True)
    seen = visits > 0
    slope = plays - plays.sum(axis=-1, keepdims=True) * greedy
    policy = (1 - rate) * (greedy if moving else np.where(seen, plays, greedy)) + rate / n_actions
    if moving:
        information = visits * ((1 - rate) * greedy) ** 2 / policy
    else:
        spread = np.maximum(1 - (greedy**2).sum(axis=-1, keepdims=True), 1e-12)
        unsure = 1 - (plays**2).sum(axis=-1, keepdims=True)
        information = greedy * np.clip(1 - unsure / spread, 0, 1) * seen
    weight = np.where(seen, np.maximum(information, LEAST_INFORMATION), 0.0)
    excess = np.where(seen, slope / np.where(seen, weight, 1.0), 0.0)
    total = weight.sum(axis=-1)
    whole = np.where(total > 0, total, 1.0)
    squares = (weight * excess**2).sum(axis=-1) - (weight * excess).sum(axis=-1) ** 2 / whole
    logs = np.log(np.where(seen, weight, 1.0)).sum(axis=-1) - np.log(whole)
    free = (n_actions - 1) * np.log(2 * np.pi * temperature**2)
    gauss = (logs - squares - free) / 2
    exact = greedy_log_likelihood(x, counts, rate, moving=moving)
    response = Response(
        temperature * (x + excess),
        np.where(seen, temperature**2 / np.where(seen, weight, 1.0), np.inf),
        float(np.where(seen[..., 0], exact - gauss, 0.0).sum()),
    )
    return GreedyFit(response, policy, greedy, epsilon)
