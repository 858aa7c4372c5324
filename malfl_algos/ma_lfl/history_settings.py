"""The choice of what a learning history leaves open: noise, prior, and share rho.

The evidence decides. One setting is searched at a time along an ordered grid, from its start in the
direction of larger evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.low_rank_priors import Basis, Kernel
from malfl_algos.ma_lfl.posterior import (
    PRIOR_BOUNDS,
    Evidence,
    Posterior,
    best_prior,
    evidence_of,
    posterior_of,
)
from malfl_algos.ma_lfl.rows import Rows
from malfl_algos.normal import Normal

__all__ = [
    "NOISES",
    "RETAINED",
    "Prior",
    "Setting",
    "best_setting",
    "climb",
    "kernels",
    "uniform_start",
]

FloatArray = NDArray[np.float64]
Entry = TypeVar("Entry", bound=Hashable)

LENGTHS = (0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0, 14.0)
SHARES = (0.9, 0.99)
RETAINED = (0.0, 0.2, 0.4, 0.6, 0.75, 0.9)
NOISES = tuple(float(noise) for noise in np.geomspace(1e-7, 1.0, 36))
"""Grids of the kernel's length; its smooth share where the functions are complete; rho; and the
noise variance in units of alpha squared.
"""
SCANNED_NOISES = (9, 18, 23, 28)
"""Places of noise variances that are tried where there is no earlier choice."""
FIRST_LENGTH, SPREAD = 3.0, 0.4
"""Median of the length before anything was seen, and the standard deviation of its logarithm. The
first stages hardly tell the length.
"""
OF_WIDTH, OF_FEW = (0.2, 0.3, 0.4, 0.5), (0.2, 0.3)
"""Lengths as shares of the number of values of a coordinate, where the functions are not complete:
for products of all coordinates, and for sums of functions of few.
What they leave out then favours ever longer lengths in the evidence, whose standard deviations are
too small.
"""
MARGIN = 3.0
"""A smooth prior replaces independent rewards if its log evidence is larger by more than this."""
SURE = 5.0
"""Counts contradict uniform policies if Pearson's statistic is this many standard deviations above
its mean.
"""


class Prior:
    """The functions of the rewards, and the kernels that the evidence chooses from.

    Args:
        basis: the functions, the same for every agent.
        grids: of kernels to climb, each ordered by length.
        n_agents: number of rewards.
        discount: gamma, with which rewards of the next state enter action values.
    """

    def __init__(
        self, basis: Basis, grids: list[list[Kernel]], n_agents: int, discount: float
    ) -> None:
        self.basis, self.grids, self.n_agents = basis, grids, n_agents
        self.discount = discount
        self._roots: dict[Kernel, FloatArray] = {}
        self._lost: dict[Kernel, float] = {}

    def root(self, kernel: Kernel) -> FloatArray:
        """Root of the prior covariance of the weights of one agent's reward."""
        if kernel not in self._roots:
            self._roots[kernel] = self.basis.root(kernel)
        return self._roots[kernel]

    def least_noise(self, kernel: Kernel, prior_variance: float) -> int:
        """The place in `NOISES` of the noise variance of action values that comes from what the
        functions leave out of the rewards of next states, for a prior variance in units of alpha
        squared.
        """
        if self.basis.complete:
            return 0
        if kernel not in self._lost:
            self._lost[kernel] = float(self.basis.left_out(kernel).mean())
        least = self.discount**2 * prior_variance * self._lost[kernel]
        return min(int(np.searchsorted(NOISES, least)), len(NOISES) - 1)

    def whitened(self, normal: Normal, kernel: Kernel) -> Normal:
        """Normal equations of weights whose prior is independent with one variance."""
        root = np.kron(np.eye(self.n_agents), self.root(kernel))
        information = root.T @ normal.information @ root
        return Normal(
            (information + information.T) / 2,
            root.T @ normal.moment,
            normal.squares,
            normal.log_norm,
            normal.degrees,
        )

    def first(self) -> Kernel:
        """The kernel to start from."""
        grid = self.grids[0]
        if not self.basis.complete:
            return grid[len(grid) // 2]
        return max(grid, key=self.log_density)

    def log_density(self, kernel: Kernel) -> float:
        """Log prior density up to a constant, `MARGIN` higher for independent rewards."""
        if not self.basis.complete:
            return 0.0
        if not kernel.share:
            return MARGIN
        return -float((np.log(kernel.length / FIRST_LENGTH) / SPREAD) ** 2) / 2


@dataclass(frozen=True)
class Setting:
    """Noise variance, as a place in `NOISES`, and kernel."""

    noise: int
    kernel: Kernel


def best_setting(
    normal: Callable[[float], Normal],
    rows: Rows,
    prior: Prior,
    start: Setting | None,
    *,
    free: bool,
    prior_variance: float | None = None,
) -> tuple[Setting, Posterior]:
    """The setting of largest evidence, and the posterior there.

    Args:
        normal: normal equations of the functions' weights by noise variance.
        rows: their constant, temperature and prior; its prior is the identity.
        prior: functions and kernels.
        start: the setting before; None: noise variances are scanned.
        free: whether anything is searched; otherwise the setting is `start`.
        prior_variance: that of all weights; None: of largest evidence.
    """
    kept: dict[int, Normal] = {}

    def at(setting: Setting) -> Normal:
        if setting.noise not in kept:
            kept[setting.noise] = normal(NOISES[setting.noise] * rows.temperature**2)
        return prior.whitened(kept[setting.noise], setting.kernel)

    def with_noise(setting: Setting) -> tuple[float, float, Setting]:
        """Log evidence, prior variance, and the setting with at least the noise that this takes."""
        found = best_prior(at(setting), rows)
        least = prior.least_noise(setting.kernel, found[1] / rows.temperature**2)
        if least > setting.noise:
            setting = replace(setting, noise=least)
            found = best_prior(at(setting), rows)
        return *found, setting

    def evidence(setting: Setting) -> float:
        return with_noise(setting)[0] + prior.log_density(setting.kernel)

    chosen = start
    if chosen is None:
        tried = [Setting(noise, prior.first()) for noise in SCANNED_NOISES]
        chosen = max(tried, key=evidence)
    if free or start is None:
        chosen = _climbed(evidence, prior, chosen)
    if prior_variance is None:
        log_evidence, prior_variance, chosen = with_noise(chosen)
    else:
        value = evidence_of(at(chosen), rows)
        log_evidence = value(float(np.log(prior_variance)))
    found = _evidence(chosen, log_evidence, prior_variance, rows)
    return chosen, posterior_of(at(chosen), rows, found)


def _climbed(evidence: Callable[[Setting], float], prior: Prior, start: Setting) -> Setting:
    """A local maximum over noise and kernels."""
    kernel = start.kernel

    def noise_of(kernel: Kernel, noise: int) -> int:
        places = range(len(NOISES))
        return climb(lambda own: evidence(Setting(own, kernel)), places, start=noise)[0]

    noise = noise_of(kernel, start.noise)
    best, most = kernel, -np.inf
    for grid in prior.grids:
        at = grid.index(kernel) if kernel in grid else _nearest(grid, kernel)
        own, tried = climb(lambda own: evidence(Setting(noise, own)), grid, start=at)
        if tried[own] > most:
            best, most = own, tried[own]
    return Setting(noise if best == kernel else noise_of(best, noise), best)


def _nearest(grid: Sequence[Kernel], kernel: Kernel) -> int:
    return int(np.argmin([abs(np.log(own.length / kernel.length)) for own in grid]))


def _evidence(setting: Setting, log_evidence: float, prior_variance: float, rows: Rows) -> Evidence:
    unit = rows.temperature**2
    hit = ["noise_variance"] if setting.noise in {0, len(NOISES) - 1} else []
    low, high = PRIOR_BOUNDS
    if not low * unit * 1.05 < prior_variance < high * unit / 1.05:
        hit.append("prior_variance")
    noise = NOISES[setting.noise] * unit
    return Evidence(log_evidence + rows.log_constant, noise, 0.0, prior_variance, tuple(hit))


def kernels(kind: str, basis: Basis) -> list[list[Kernel]]:
    """Grids of kernels to climb, each ordered by length.

    Args:
        kind: `iid`, `smooth` or `auto`.
        basis: the functions. Where they are not complete, kernels have no independent part: what
            the functions leave out counts as noise.
    """
    if kind == "iid":
        return [[Kernel(1.0, 0.0)]]
    if not basis.complete:
        shares = OF_WIDTH if basis.varied == 1 else OF_FEW
        return [[Kernel(own * basis.width, 1.0, "matern", basis.varied) for own in shares]]
    smooth = [[Kernel(length, share) for length in LENGTHS] for share in SHARES]
    return [*smooth, [Kernel(1.0, 0.0)]] if kind == "auto" else smooth


def climb(
    evidence: Callable[[Entry], float], grid: Sequence[Entry], *, start: int
) -> tuple[Entry, dict[Entry, float]]:
    """The entry of an ordered grid at a local maximum of the evidence, and what was tried."""
    tried: dict[Entry, float] = {}

    def value(place: int) -> float:
        if not 0 <= place < len(grid):
            return -np.inf
        if grid[place] not in tried:
            tried[grid[place]] = evidence(grid[place])
        return tried[grid[place]]

    place = min(start, len(grid) - 1)
    for step in (-1, 1):
        while value(place + step) > value(place):
            place += step
    return grid[place], tried


def uniform_start(counts: Sequence[FloatArray]) -> bool:
    """Whether the counts of the first stage agree with uniform policies.

    Args:
        counts: per agent, `(n_states, n_actions)`.
    """
    statistic, degrees = 0.0, 0
    for own in counts:
        expected = own.sum(axis=-1, keepdims=True) / own.shape[-1]
        seen = expected[:, 0] > 0
        statistic += float(((own[seen] - expected[seen]) ** 2 / expected[seen]).sum())
        degrees += int(seen.sum()) * (own.shape[-1] - 1)
    return bool(statistic - degrees <= SURE * np.sqrt(2 * max(degrees, 1)))
