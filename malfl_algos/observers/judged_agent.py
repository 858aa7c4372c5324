"""The numbers of a verdict on one agent's reward."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.alternation import CONCENTRATION
from malfl_algos.ma_lfl.improvement import step_of
from malfl_algos.ma_lfl.learner_models import LearnerModel, LinearisedModel
from malfl_algos.ma_lfl.posterior import MEAN_VARIANCE
from malfl_algos.ma_lfl.rows import Chain, Rows, normal_equations
from malfl_algos.ma_lfl.stages import StageArrays
from malfl_algos.verdict.agreement import agreement, correlation
from malfl_algos.verdict.halves import (
    Improvement,
    Sums,
    determined,
    halves,
    held_out,
    log_evidence,
    mean,
    sums_of,
    total,
)

__all__ = ["AgentFit", "numbers_of"]

FloatArray = NDArray[np.float64]
Settings = Mapping[str, Any]

DISCOUNTS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
"""Discounts whose evidence is compared with that of the given one."""
SHARED_NOISE = tuple(10.0 ** np.arange(-5, 1))
"""Noise variances tried for rules and discounts that are compared."""
FACTORS = (0.3, 1.0, 3.0, 10.0, 30.0)
"""Factors tried on the noise of the fit, for the same."""
PRIORS = (0.25, 1.0, 4.0)
"""Factors tried on the prior variance, for the same."""
DRIFTS = tuple(10.0 ** np.arange(-7, 1.1, 0.5))
"""Variances of the change of log pi between stages if there is no reward."""
NEEDS_IMPROVEMENTS = (
    "explained",
    "misfit",
    "halves_shortfall",
    "expected_low",
    "gain_over_no_change",
    "identified",
)
"""Numbers that need two improvements."""
START = 0.02
"""Noise variance of the first of the fits that find the learner's noise."""


@dataclass(frozen=True, eq=False)
class AgentFit:
    """One agent's fit, as arrays. Variances are in units of the temperature squared.

    Args:
        index: the agent.
        stages: all stages.
        policies: of all agents, each `(n_stages, n_states, n_actions)`.
        known: whether the agent's policies are known.
        settings: of the learner model; and `noise_variance, noise_scale, prior_variance` of the fit
            in its own units.
        model: the learner model for settings.
        reward: reward unknowns at which a model is linearised.
        features: map from weights to unknowns; None: the unknowns themselves.
        alpha: the temperature.
    """

    index: int
    stages: Sequence[StageArrays]
    policies: Sequence[FloatArray]
    known: bool
    settings: Settings
    model: Callable[[Settings], LearnerModel]
    reward: FloatArray
    features: FloatArray | None
    alpha: float

    @property
    def retained(self) -> float:
        """Share of the log-policy that the learner keeps."""
        return float(self.settings.get("improvement") or 0.0)

    def by_stage(self, name: str) -> FloatArray:
        """A factor of every improvement that the fit chose; 1 if it chose none."""
        given = self.settings.get(name)
        return np.ones(len(self.stages) - 1) if given is None else np.asarray(given, dtype=float)

    def prior(self, n_unknowns: int, factor: float = 1.0) -> FloatArray:
        """Prior precision of the unknowns, as in `malfl_algos.ma_lfl.data_fit`."""
        variance = factor * float(self.settings["prior_variance"])
        if self.features is not None:
            return np.asarray(np.eye(n_unknowns) / variance)
        level = np.full((n_unknowns, n_unknowns), 1 / n_unknowns)
        spread = (np.eye(n_unknowns) - level) / variance
        return np.asarray(spread + level / (MEAN_VARIANCE * self.alpha**2))

    def responses(self) -> list[tuple[FloatArray, FloatArray]]:
        """Log policies of every stage as the counts say, up to a constant per state; variances."""
        found = []
        for stage, policy in zip(self.stages, self.policies[self.index], strict=True):
            log_policy = np.log(np.maximum(policy, 1e-300))
            if self.known:
                certain = np.where(policy > 1e-300, 1e-10, np.inf)
                found.append((log_policy, certain))
                continue
            counts = stage.action_counts(self.index).astype(np.float64)
            visits = counts.sum(axis=1, keepdims=True)
            expected = np.maximum(visits * policy, 1e-12)
            seen = visits > 0
            excess = np.where(seen, (counts - expected) / expected, 0.0)
            found.append((log_policy + excess, np.where(seen, 1 / expected, np.inf)))
        return found


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows of one rule and discount, in units of the temperature, but for the noise.

    Args:
        coefficients: of the unknowns, per improvement.
        responses, counting: of the rows and their variance from counts, per improvement.
        noise: the learner's noise as the rule predicts it, from the unknowns.
        logs, doubts: log policies less the offset, before and after each improvement, and their
            variances.
        retained: share rho of the log policy that the learner keeps.
    """

    coefficients: Sequence[FloatArray]
    responses: Sequence[FloatArray]
    counting: Sequence[FloatArray]
    noise: Callable[[FloatArray], Sequence[FloatArray]]
    logs: tuple[FloatArray, FloatArray]
    doubts: FloatArray
    retained: float

    def with_noise(
        self, learning: Sequence[FloatArray], predicted: Sequence[FloatArray] | None = None
    ) -> list[Improvement]:
        return [
            Improvement(*own)
            for own in zip(
                self.coefficients,
                self.responses,
                self.counting,
                learning,
                learning if predicted is None else predicted,
                strict=True,
            )
        ]

    def whole(self, learning: Sequence[FloatArray]) -> Sums:
        """The sums of all improvements, with the errors that successive ones share."""
        if self.retained == 0:
            return total([sums_of(own) for own in self.with_noise(learning)])
        before, after = self.logs
        table, step = np.stack(self.coefficients), step_of(self.retained)
        rows = Rows(
            coefficients=table / step,
            response=after,
            response_variance=self.doubts[1:],
            model_variance=np.stack(learning) / step**2,
            prior=np.eye(table.shape[-1]),
            log_constant=0.0,
            temperature=1.0,
            chain=Chain(self.retained, before, self.doubts[0]),
        )
        found = normal_equations(rows, 0.0, 1.0)
        return Sums(found.information, found.moment, found.squares, found.log_norm, found.degrees)


def numbers_of(
    fit: AgentFit,
    reward: FloatArray | None,
    compared: Callable[[FloatArray], FloatArray],
    rules: Sequence[str],
    n_seen: int,
) -> dict[str, Any]:
    """The numbers of `malfl_algos.verdict.deciding` on one agent's reward.

    Args:
        fit: the fit to judge under.
        reward: the judged reward at the compared states; None: it is the fit's own.
        compared: maps the unknowns to the reward at the compared states.
        rules: further rules to compare the evidence with.
        n_seen: number of unknowns that the data touch.
    """
    if len(fit.stages) < 3:
        why = f"it needs two improvements (3 stages), the trace has {len(fit.stages)} stages"
        return {"missing": dict.fromkeys(NEEDS_IMPROVEMENTS, why)}
    rows = _rows(fit, fit.settings)
    unknown = rows.coefficients[0].shape[-1]
    prior = fit.prior(unknown)
    learning, predicted = _noise(fit, rows, prior)
    improvements = rows.with_noise(learning, predicted)
    parts = [sums_of(own) for own in improvements]
    predicted_well = held_out(improvements, prior)
    whole = rows.whole(learning)
    agreed = agreement(halves(parts), whole, prior, reward, compared)
    evidence, degrees = log_evidence(total(parts), prior), whole.degrees
    scored = _best_evidence(fit, rows, learning, prior)
    noises = fit.by_stage("stage_noises")
    numbers = {
        "rule": fit.settings.get("rule"),
        "discount": fit.settings["discount"],
        "improvement": fit.retained,
        "explained": predicted_well.explained,
        "misfit": predicted_well.misfit,
        "p_value": predicted_well.p_value,
        "halves": agreed.halves,
        "halves_expected": agreed.halves_expected,
        "halves_p_value": agreed.p_value,
        "halves_shortfall": agreed.halves_expected - agreed.halves,
        "expected": agreed.expected,
        "expected_low": agreed.low,
        "gain_over_no_change": (evidence - _no_reward(fit)) / max(degrees, 1),
        "rows": degrees,
        "stage_noises_spread": float(np.max(noises) / np.median(noises)),
        "identified": determined(whole, prior) / max(n_seen - 1, 1),
    }
    if reward is not None:
        centre = mean(whole, prior)
        numbers["agrees_with_posterior_mean"] = correlation(compared(centre), reward)
    numbers |= _compared(fit, scored, degrees, "discount", DISCOUNTS)
    return numbers | _compared(fit, scored, degrees, "rule", rules)


def _rows(fit: AgentFit, settings: Settings) -> _Rows:
    """Coefficients, responses and counting variances under some settings.

    A model that is linear near a reward only is linearised at the posterior mean, too, because the
    fit's reward has lost its level.
    """
    model = fit.model(settings)
    if not isinstance(model, LinearisedModel):
        return _rows_of(fit, settings, model, fit.stages[:-1])
    played = fit.stages[: None if model.moving else -1]
    rows = _rows_of(fit, settings, model.linearised(fit.reward), played)
    learning = [np.full(own.shape, START) for own in rows.responses]
    theta = mean(_sums(rows, learning), fit.prior(rows.coefficients[0].shape[-1]))
    reward = theta if fit.features is None else fit.features @ theta
    return _rows_of(fit, settings, model.linearised(reward), played)


def _rows_of(
    fit: AgentFit, settings: Settings, model: LearnerModel, played: Sequence[StageArrays]
) -> _Rows:
    joint = [[policy[h] for policy in fit.policies] for h in range(len(played))]
    table = model.coefficients(played, joint, fit.index)
    kept, alpha = float(settings.get("improvement") or 0.0), fit.alpha
    step, scales = step_of(kept), fit.by_stage("stage_scales")
    unknowns = [
        step * scale * own[..., :-1] / alpha for scale, own in zip(scales, table, strict=True)
    ]
    if fit.features is not None:
        unknowns = [own @ fit.features for own in unknowns]
    said = fit.responses()
    logs, doubts = (np.stack(own) for own in zip(*said, strict=True))
    doubts[0] = np.where(np.isfinite(doubts[0]), doubts[0], 1 / CONCENTRATION)
    offset = np.stack([own[..., -1] / alpha for own in table])
    further = (scales[:, None, None] - 1) * (1 - kept) * offset
    before, after = logs[:-1] - offset, logs[1:] - offset - further
    responses = after - kept * before if kept else after
    counting = doubts[1:] + kept**2 * doubts[:-1] if kept else doubts[1:]

    def noise(theta: FloatArray) -> list[FloatArray]:
        reward = theta if fit.features is None else fit.features @ theta
        q = table[..., :-1] @ reward + table[..., -1]
        variance = model.variance(played, joint, fit.index, reward, q)
        return list((step * scales[:, None, None] / alpha) ** 2 * variance)

    return _Rows(unknowns, list(responses), list(counting), noise, (before, after), doubts, kept)


def _noise(
    fit: AgentFit, rows: _Rows, prior: FloatArray
) -> tuple[list[FloatArray], list[FloatArray]]:
    """Variance of the learner's noise as chosen by the fit, and as its rule predicts."""
    shared = float(fit.settings["noise_variance"]) / fit.alpha**2
    scale = float(fit.settings.get("noise_scale") or 0.0)
    noises = shared * fit.by_stage("stage_noises")
    learning = [np.full(own.shape, shared + START) for own in rows.responses]
    predicted = learning
    for _ in range(2):
        theta = mean(_sums(rows, learning), prior)
        predicted = [np.asarray(own) for own in rows.noise(theta)]
        learning = [noise + scale * own for noise, own in zip(noises, predicted, strict=True)]
    return learning, predicted


def _sums(rows: _Rows, learning: Sequence[FloatArray]) -> Sums:
    return total([sums_of(own) for own in rows.with_noise(learning)])


def _best_evidence(
    fit: AgentFit, rows: _Rows, learning: Sequence[FloatArray], prior: FloatArray
) -> float:
    """Largest log evidence over a grid of noises and priors."""
    tried = [[factor * own + 1e-9 for own in learning] for factor in FACTORS]
    tried += [[np.full(own.shape, noise) for own in learning] for noise in SHARED_NOISE]
    unknown = len(prior)
    sums = [_sums(rows, one) for one in tried]
    rough = [log_evidence(one, prior) for one in sums]
    best = sums[int(np.argmax(rough))]
    return max(log_evidence(best, fit.prior(unknown, factor)) for factor in PRIORS)


def _compared(
    fit: AgentFit, scored: float, degrees: int, name: str, choices: Sequence[Any]
) -> dict[str, Any]:
    """The best other choice of a setting by evidence, and by how much per row it is better."""
    own = fit.settings.get(name)
    found = {}
    for choice in choices:
        if choice == own:
            continue
        settings = {**fit.settings, name: choice}
        if name == "rule" and choice not in ("td", "exact"):
            settings["improvement"] = 0.0  # such a learner chooses by q alone
        rows = _rows(fit, settings)
        prior = fit.prior(rows.coefficients[0].shape[-1])
        learning, _ = _noise(fit, rows, prior)
        found[choice] = _best_evidence(fit, rows, learning, prior)
    if not found:
        return {}
    best = max(found, key=lambda choice: found[choice])
    return {f"best_{name}": best, f"{name}_deficit": (found[best] - scored) / max(degrees, 1)}


def _no_reward(fit: AgentFit) -> float:
    """Log evidence of policies that drift: log pi_{h+1} = log pi_h + noise; the largest of all."""
    said = fit.responses()
    changes = [
        (after - before, doubt_before, doubt)
        for (before, doubt_before), (after, doubt) in pairwise(said)
    ]

    def evidence(drift: float) -> float:
        found = 0.0
        for change, doubt_before, doubt in changes:
            free = np.zeros((*change.shape, 1))
            step = np.full(change.shape, drift) + np.minimum(doubt_before, 1 / 0.3)
            sums = sums_of(Improvement(free, change, doubt, step, step))
            found += sums.log_norm - sums.squares / 2
        return found

    return max(map(evidence, DRIFTS))
