"""Fit rewards of epsilon-greedy Q-learners.

The counterpart of `alternation`. The counts of a stage tell which action was greedy in a state: its
q was the greatest. With q affine in the reward, every other action gives a half-space of rewards
(`halfspaces`). Half-spaces say little about single reward values, so that the prior matters. It is
smooth in the coordinates of the state as far as the evidence asks for it (`reward_priors`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from malfl_algos.ma_lfl.alternation import CONVERGED, AgentFit
from malfl_algos.ma_lfl.choices import SHARED_NOISE
from malfl_algos.ma_lfl.expected_updates import ExpectedQ
from malfl_algos.ma_lfl.greedy_actions import GreedyActions, frozen_actions, moving_actions
from malfl_algos.ma_lfl.greedy_posterior import GreedyPosterior, Pairs, fit_pairs
from malfl_algos.ma_lfl.learner_models import LinearisedModel
from malfl_algos.ma_lfl.policy_estimation import CONCENTRATION, smoothed_policy
from malfl_algos.ma_lfl.posterior import Evidence, Posterior
from malfl_algos.ma_lfl.reward_priors import RewardPrior
from malfl_algos.ma_lfl.stages import StageArrays

__all__ = ["fit_greedy", "small_enough"]

FloatArray = NDArray[np.float64]

MOST_WORK = 1e9
"""Largest number of pairs of actions times unknowns squared, to which the time is proportional."""
EXPECTED_DRAWS = 0.3
"""Number of independent draws that a stage of a moving policy counts as. Its errors are much the
same in every stage. It was chosen so that 2 standard deviations cover what they should on the
paper's games.
"""
KNOWN_VISITS = 1e6
"""Number of visits of a state that stands for a known policy."""
SCALE_REASON = (
    "epsilon-greedy choices show only which action is the best; the unit is such that the prior "
    "standard deviation of a reward value is the temperature"
)


class _State(NamedTuple):
    """An agent after an iteration: its reward unknowns, and how they were found."""

    reward: FloatArray
    found: GreedyPosterior
    posterior: Posterior


def fit_greedy(
    stages: Sequence[StageArrays],
    models: Sequence[LinearisedModel],
    priors: Sequence[RewardPrior],
    *,
    known_policies: Sequence[FloatArray | None],
    features: Sequence[FloatArray | None],
    temperature: float,
    passes: int,
) -> list[AgentFit]:
    """Fit every agent's reward.

    Args:
        stages: at least two.
        models: of each agent's q at the ends of stages; all move, or none.
        priors: of each agent's unknowns, or feature weights.
        known_policies, features, temperature, passes: as `malfl_algos.ma_lfl.alternation.alternate`
            takes them.

    Returns:
        One fit per agent. The evidence is that of the counts of all stages after the first, at the
        settings of largest posterior density.
    """
    models = list(models)
    moving = models[0].moving
    counts = [_counts(stages, index, known) for index, known in enumerate(known_policies)]
    draws = EXPECTED_DRAWS if moving else 1.0
    shown = [
        moving_actions(own[1:], draws) if moving else frozen_actions(own[1:]) for own in counts
    ]
    policies = [_all_stages(*own) for own in zip(counts, shown, strict=True)]
    played = stages if moving else stages[:-1]
    joint = [[own[h] for own in policies] for h in range(len(played))]
    states: list[_State | None] = [None] * len(models)
    settled = [False] * len(models)
    done = 0
    while done < passes and not (done and all(settled)):
        done += 1
        for index, before in enumerate(states):
            pairs = _pairs(played, joint, models[index], index, shown[index], before)
            now = _fitted(
                pairs,
                priors[index],
                features[index],
                temperature,
                before,
                shown[index].log_likelihood,
                draws,
            )
            if isinstance(models[index], ExpectedQ):
                now = _with_shared_noise(now, features[index])
            settled[index] = before is not None and _moved(before, now) < CONVERGED
            states[index], models[index] = now, models[index].linearised(now.reward)
    return [
        AgentFit(one.posterior, policy, model, done, rests, _further(one, own.epsilon))
        for one, own, policy, model, rests in zip(
            states, shown, policies, models, settled, strict=True
        )
        if one is not None
    ]


def small_enough(shape: tuple[int, ...], n_unknowns: int) -> bool:
    """Whether `fit_greedy` is fast enough.

    Args:
        shape: stages, states and actions of an agent.
        n_unknowns: number of its reward unknowns or feature weights.
    """
    n_stages, n_states, n_actions = shape
    return (n_stages - 1) * n_states * (n_actions - 1) * n_unknowns**2 <= MOST_WORK


def _counts(stages: Sequence[StageArrays], index: int, known: FloatArray | None) -> FloatArray:
    if known is not None:
        return KNOWN_VISITS * known
    return np.stack([stage.action_counts(index) for stage in stages]).astype(float)


def _all_stages(counts: FloatArray, shown: GreedyActions) -> FloatArray:
    first = smoothed_policy(counts[0], pseudo_count=CONCENTRATION)
    return np.concatenate([first[None], shown.policies])


def _pairs(
    stages: Sequence[StageArrays],
    joint: Sequence[Sequence[FloatArray]],
    model: LinearisedModel,
    index: int,
    shown: GreedyActions,
    before: _State | None,
) -> Pairs:
    """Every greedy action with every other action, of all stages and states."""
    q = model.coefficients(stages, joint, index)
    noise = np.zeros(q.shape[:-1])
    if before is not None:
        values = q[..., :-1] @ before.reward + q[..., -1]
        noise = model.variance(stages, joint, index, before.reward, values)
    best = shown.best[..., None]
    ahead = np.take_along_axis(q, best[..., None], axis=2) - q
    both = np.take_along_axis(noise, best, axis=2) + noise
    parts = []
    for sign, weights in ((1.0, shown.wins), (-1.0, shown.losses)):
        used = (shown.lapses < 1) & (weights > 0)
        np.put_along_axis(used, best, values=False, axis=-1)
        rows = sign * ahead[used].astype(np.float64)
        parts.append((rows[:, :-1], rows[:, -1], both[used], shown.lapses[used], weights[used]))
    return Pairs(*map(np.concatenate, zip(*parts, strict=True)))


def _fitted(
    pairs: Pairs,
    prior: RewardPrior,
    features: FloatArray | None,
    temperature: float,
    before: _State | None,
    log_likelihood: float,
    draws: float,
) -> _State:
    """One iteration for one agent.

    The evidence is that of the counts, with one draw per stage. So rules compare.
    """
    if features is not None:
        pairs = pairs._replace(rows=pairs.rows @ features)
    unit = temperature**2
    pairs = pairs._replace(offsets=pairs.offsets / temperature, noise=pairs.noise / unit)
    found = fit_pairs(pairs, prior, start=None if before is None else before.found)
    mean = temperature * found.posterior.mean
    precision = np.asarray(np.linalg.inv(found.posterior.covariance) / unit)
    evidence = Evidence(
        found.log_evidence / draws + log_likelihood,
        float(np.exp(found.settings["noise_variance"])) * unit / 2,
        float(np.exp(found.settings.get("noise_scale", 0.0))),
        unit,
        found.bounds_hit,
    )
    information = precision - np.linalg.inv(found.prior) / unit
    posterior = Posterior(mean, precision, information, evidence)
    return _State(mean if features is None else features @ mean, found, posterior)


def _with_shared_noise(state: _State, features: FloatArray | None) -> _State:
    """The posterior of expected updates, whose noise states share with those that follow them."""
    posterior = state.posterior.repeated(SHARED_NOISE)
    mean = posterior.mean if features is None else features @ posterior.mean
    return state._replace(posterior=posterior, reward=mean)


def _moved(before: _State, now: _State) -> float:
    return now.posterior.distance(now.posterior.mean - before.posterior.mean)


def _further(state: _State, epsilon: FloatArray) -> dict[str, Any]:
    """Diagnostics."""
    settings = state.found.settings
    prior = {"iid_share": float(expit(settings["prior_iid"]))} if "prior_iid" in settings else {}
    if prior:
        prior["length"] = float(np.exp(settings["prior_length"]))
    return {
        "scale": "open",
        "scale_reason": SCALE_REASON,
        "epsilon": [None, *map(float, epsilon)],
        "prior": prior,
    }
