"""Settings of the model of policy-gradient learners, and what is known about them beforehand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.reward_priors import RewardPrior

__all__ = [
    "NETWORK",
    "REPLAYED",
    "TABLE",
    "GradientSettings",
    "Policy",
    "first_settings",
    "log_density",
]

FloatArray = NDArray[np.float64]

NOISE_SD, STAGE_NOISE_SD = 3.0, 0.25
"""Prior standard deviations of the mean over stages of log n_h, and of log n_h about it."""


@dataclass(frozen=True)
class Policy:
    """What is known beforehand about the settings of a kind of policy: a network or a table.

    Args:
        step_sd: standard deviation of log w_h(0), the size of a stage's step, about log n_states.
            It fixes the unit of the reward, which is open.
        order_sd: standard deviation of log w_h(o) / w_h(0) about its expectation.
        per_order: its expectation falls by this for every coordinate beyond the first.
        drift_sd: standard deviation of its change from stage to stage.
        log_rest, rest_sd: mean and standard deviation of log m_h(o).
        log_noise: expectation of log n_h.
    """

    step_sd: float
    order_sd: float
    per_order: float
    drift_sd: float
    log_rest: float
    rest_sd: float
    log_noise: float = -4.0

    def expected(self, n_orders: int) -> FloatArray:
        """Expected log w(o) / w(0)."""
        return np.asarray(-self.per_order * np.maximum(np.arange(n_orders) - 1.0, 0.0))


NETWORK = Policy(step_sd=1.0, order_sd=2.0, per_order=1.0, drift_sd=0.5, log_rest=-9.0, rest_sd=3.0)
TABLE = Policy(step_sd=0.3, order_sd=0.1, per_order=0.0, drift_sd=0.1, log_rest=-12.0, rest_sd=1.0)
REPLAYED = Policy(0.3, 0.05, 0.0, 0.02, log_rest=-20.0, rest_sd=0.5, log_noise=-18.0)
"""A table whose gradients are those of the learner's own episodes, so that there is no noise."""


@dataclass(frozen=True, eq=False)
class GradientSettings:
    """All settings, as logarithms.

    Args:
        weights: log w, `(n_stages, n_orders)`.
        noise: log n, `(n_stages,)`.
        rest: log m, `(n_stages, n_orders)`.
        prior: of the reward, see `malfl_algos.ma_lfl.reward_priors.RewardPrior`.
    """

    weights: FloatArray
    noise: FloatArray
    rest: FloatArray
    prior: FloatArray

    def joined(self) -> FloatArray:
        """All numbers in one row."""
        parts = (self.weights, self.noise, self.rest, self.prior)
        return np.concatenate([part.ravel() for part in parts])

    def split(self, numbers: FloatArray) -> GradientSettings:
        """The settings of this shape that `joined` turned into one row."""
        sizes = np.cumsum([self.weights.size, self.noise.size, self.rest.size])
        weights, noise, rest, prior = np.split(numbers, sizes)
        shape = self.weights.shape
        return GradientSettings(weights.reshape(shape), noise, rest.reshape(shape), prior)


def first_settings(
    n_stages: int, orders: NDArray[np.int64], prior: RewardPrior, policy: Policy = NETWORK
) -> GradientSettings:
    """The settings of largest prior density, from which a first search starts."""
    n_orders = int(orders.max()) + 1
    shape = (n_stages, n_orders)
    weights = np.broadcast_to(np.log(len(orders)) + policy.expected(n_orders), shape)
    rest = np.full(shape, policy.log_rest)
    return GradientSettings(
        weights.copy(), np.full(n_stages, policy.log_noise), rest, prior.means.copy()
    )


def log_density(
    settings: GradientSettings, n_states: int, prior: RewardPrior, policy: Policy
) -> tuple[float, FloatArray]:
    """Log prior density of the settings relative to its largest value, and its gradient."""
    weights, noise = settings.weights, settings.noise
    step = (weights[:, 0] - np.log(n_states)) / policy.step_sd
    relative = weights - weights[:, :1]
    order = (relative - policy.expected(weights.shape[1])) / policy.order_sd
    drift = np.diff(relative, axis=0) / policy.drift_sd
    level = (noise.mean() - policy.log_noise) / NOISE_SD
    about = (noise - noise.mean()) / STAGE_NOISE_SD
    rest = (settings.rest - policy.log_rest) / policy.rest_sd
    of_prior, prior_slope = prior.log_density(settings.prior)
    squares = sum(float((part**2).sum()) for part in (step, order, drift, about, rest))
    value = -(squares + level**2) / 2 + of_prior
    of_relative = -order / policy.order_sd
    of_relative[1:] -= drift / policy.drift_sd
    of_relative[:-1] += drift / policy.drift_sd
    of_weights = of_relative.copy()
    of_weights[:, 0] -= of_relative.sum(axis=1) + step / policy.step_sd
    of_noise = -about / STAGE_NOISE_SD - level / NOISE_SD / len(noise)
    slope = GradientSettings(of_weights, of_noise, -rest / policy.rest_sd, prior_slope)
    return float(value), slope.joined()
