"""One agent's fit as rows of equations for its reward, for a verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.data_fit import coefficients_of
from malfl_algos.ma_lfl.improvement import step_of
from malfl_algos.ma_lfl.learner_models import LearnerModel, LinearisedModel
from malfl_algos.ma_lfl.policy_estimation import CONCENTRATION, concentration_of
from malfl_algos.ma_lfl.posterior import MEAN_VARIANCE
from malfl_algos.ma_lfl.prior_shapes import shape_precision
from malfl_algos.ma_lfl.reward_models import feature_prior
from malfl_algos.ma_lfl.reward_priors import RewardPrior
from malfl_algos.ma_lfl.row_sums import row_sums
from malfl_algos.ma_lfl.rows import Chain, Rows, normal_equations
from malfl_algos.ma_lfl.stages import StageArrays
from malfl_algos.normal import Normal
from malfl_algos.verdict.halves import Improvement, mean

__all__ = ["AgentFit", "AgentRows", "Settings", "learners_noise", "rows_of"]

FloatArray = NDArray[np.float64]
Settings = Mapping[str, Any]

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
        smooth: the smooth prior whose shape `settings` tell; None: the unknowns are independent.
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
    smooth: RewardPrior | None = None
    _priors: dict[tuple[int, float], FloatArray] = field(
        default_factory=dict, init=False, repr=False
    )

    @property
    def retained(self) -> float:
        """Share of the log-policy that the learner keeps."""
        return float(self.settings.get("improvement") or 0.0)

    def by_stage(self, name: str) -> FloatArray:
        """A factor of every improvement that the fit chose; 1 if it chose none."""
        given = self.settings.get(name)
        return np.ones(len(self.stages) - 1) if given is None else np.asarray(given, dtype=float)

    def prior(self, n_unknowns: int, factor: float = 1.0) -> FloatArray:
        """Prior precision of the unknowns, as in `malfl_algos.ma_lfl.data_fit`; it may not be
        modified.
        """
        if (n_unknowns, factor) not in self._priors:  # the same for every discount
            self._priors[n_unknowns, factor] = self._prior(n_unknowns, factor)
        return self._priors[n_unknowns, factor]

    def _prior(self, n_unknowns: int, factor: float) -> FloatArray:
        variance = factor * float(self.settings["prior_variance"])
        if self.smooth is not None:
            unit = self.alpha**2
            shape = np.asarray(self.settings["prior"]["settings"], dtype=np.float64)
            return shape_precision(self.smooth, shape, variance / unit) / unit
        spread = np.eye(n_unknowns) - np.full((n_unknowns, n_unknowns), 1 / n_unknowns)
        if self.features is not None:
            spread = feature_prior(self.features)
        level = np.eye(n_unknowns) - spread
        return np.asarray(spread / variance + level / (MEAN_VARIANCE * self.alpha**2))

    def responses(self) -> list[tuple[FloatArray, FloatArray]]:
        """Log policies of every stage as the counts say, up to a constant per state; variances.

        If the learner keeps a share of its log policy, the first one has the prior of the fit.
        """
        found = []
        for number, stage in enumerate(self.stages):
            policy = self.policies[self.index][number]
            log_policy = np.log(np.maximum(policy, 1e-300))
            if self.known:
                certain = np.where(policy > 1e-300, 1e-10, np.inf)
                found.append((log_policy, certain))
                continue
            counts = stage.action_counts(self.index).astype(np.float64)
            if number == 0 and self.retained:
                counts += concentration_of(counts)
            visits = counts.sum(axis=1, keepdims=True)
            expected = np.maximum(visits * policy, 1e-12)
            seen = visits > 0
            excess = np.where(seen, (counts - expected) / expected, 0.0)
            found.append((log_policy + excess, np.where(seen, 1 / expected, np.inf)))
        return found


@dataclass(frozen=True, eq=False)
class AgentRows:
    """The rows of one rule and discount, in units of the temperature, but for the noise.

    Args:
        coefficients: of the unknowns, `(n_improvements, n_states, n_actions, n_unknowns)`.
        responses, counting: of the rows and their variance from counts, `(n_improvements, n_states,
            n_actions)`.
        noise: the learner's noise as the rule predicts it, from the unknowns.
        logs, doubts: log policies less the offset, before and after each improvement, and their
            variances.
        retained: share rho of the log policy that the learner keeps.
    """

    coefficients: FloatArray
    responses: FloatArray
    counting: FloatArray
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

    def parts(self, learning: Sequence[FloatArray]) -> list[Normal]:
        """The normal equations of every improvement, as if all errors were independent."""
        variance = self.counting + np.stack(learning)
        return [
            row_sums(self.coefficients[h : h + 1], self.responses[h : h + 1], variance[h : h + 1])
            for h in range(len(variance))
        ]

    def sums(self, learning: Sequence[FloatArray]) -> Normal:
        """The normal equations of all improvements, as if all errors were independent."""
        variance = self.counting + np.stack(learning)
        return row_sums(self.coefficients, self.responses, variance)

    def whole(self, learning: Sequence[FloatArray]) -> Normal:
        """The normal equations of all improvements, with the errors that successive ones share."""
        if self.retained == 0:
            return self.sums(learning)
        before, after = self.logs
        table, step = self.coefficients, step_of(self.retained)
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
        return normal_equations(rows, 0.0, 1.0)


def rows_of(fit: AgentFit, settings: Settings) -> AgentRows:
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
    theta = mean(rows.sums(learning), fit.prior(rows.coefficients[0].shape[-1]))
    reward = theta if fit.features is None else fit.features @ theta
    return _rows_of(fit, settings, model.linearised(reward), played)


def _rows_of(
    fit: AgentFit, settings: Settings, model: LearnerModel, played: Sequence[StageArrays]
) -> AgentRows:
    joint = [[policy[h] for policy in fit.policies] for h in range(len(played))]
    low_rank = fit.smooth is not None and fit.features is not None  # in a large game
    few, offsets = coefficients_of(
        model, played, joint, fit.index, fit.features, matrix_free=low_rank
    )
    kept, alpha = float(settings.get("improvement") or 0.0), fit.alpha
    step, scales = step_of(kept), fit.by_stage("stage_scales")
    unknowns = few / alpha
    if step != 1 or (scales != 1).any():
        unknowns *= step * scales[:, None, None, None]
    said = fit.responses()
    logs, doubts = (np.stack(own) for own in zip(*said, strict=True))
    doubts[0] = np.where(np.isfinite(doubts[0]), doubts[0], 1 / CONCENTRATION)
    offset = offsets / alpha
    further = (scales[:, None, None] - 1) * (1 - kept) * offset
    before, after = logs[:-1] - offset, logs[1:] - offset - further
    responses = after - kept * before if kept else after
    counting = doubts[1:] + kept**2 * doubts[:-1] if kept else doubts[1:]

    def noise(theta: FloatArray) -> list[FloatArray]:
        reward = theta if fit.features is None else fit.features @ theta
        q = few @ theta + offsets
        variance = model.variance(played, joint, fit.index, reward, q)
        return list((step * scales[:, None, None] / alpha) ** 2 * variance)

    return AgentRows(unknowns, responses, counting, noise, (before, after), doubts, kept)


def learners_noise(
    fit: AgentFit, rows: AgentRows, prior: FloatArray
) -> tuple[list[FloatArray], list[FloatArray]]:
    """Variance of the learner's noise as chosen by the fit, and as its rule predicts."""
    shared = float(fit.settings["noise_variance"]) / fit.alpha**2
    scale = float(fit.settings.get("noise_scale") or 0.0)
    noises = shared * fit.by_stage("stage_noises")
    learning = [np.full(own.shape, shared + START) for own in rows.responses]
    predicted = learning
    for _ in range(2):
        theta = mean(rows.sums(learning), prior)
        predicted = [np.asarray(own) for own in rows.noise(theta)]
        learning = [noise + scale * own for noise, own in zip(noises, predicted, strict=True)]
    return learning, predicted
