"""Smooth or independent rewards of a large game: the evidence of both for the same data.

The smooth rewards are those of `low_rank_fit`, whose evidence is exact. That of independent rewards
is estimated without matrices (`matrix_free_posterior`), with its error, at the noise and the prior
variance to which a few steps lead. All agents get the same kind of prior, so their log evidences
are added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from malfl_algos.ma_lfl.alternation import AgentFit, alternate, played_stages
from malfl_algos.ma_lfl.data_fit import fit_data, matrix_free_rows
from malfl_algos.ma_lfl.learner_models import LearnerModel
from malfl_algos.ma_lfl.matrix_free_posterior import MatrixFreePosterior, matrix_free_posterior
from malfl_algos.ma_lfl.posterior import NOISE_BOUNDS, Given
from malfl_algos.ma_lfl.prior_shapes import MARGIN, shape_root
from malfl_algos.ma_lfl.reward_priors import RewardPrior
from malfl_algos.ma_lfl.stages import StageArrays
from malfl_algos.work.telling import say

__all__ = ["Comparison", "compared", "independent_fits", "start_of_search"]

START = 1e-3
"""Noise variance that the search for independent rewards starts from, in units of alpha squared,
unless all policies are known. Then it starts from the smallest one.
"""
MOST_STEPS = 6
"""Largest number of settings of noise and prior variance that are tried."""
SURE = 2.0
"""Smooth rewards must be better by more than the margin and this many standard deviations of the
error.
"""
PROMISED = 3.0
"""No further step is made if this many times the rise that it promises would not change the choice.
"""


def independent_fits(
    stages: Sequence[StageArrays],
    models: Sequence[LearnerModel],
    start: Given,
    why: str,
    options: dict[str, Any],
) -> list[AgentFit]:
    """The fits of independent rewards, without matrices.

    Args:
        stages, models: as `malfl_algos.ma_lfl.alternation.alternate` takes them.
        start: noise and prior variance that their search starts from.
        why: why they are independent, for diagnostics.
        options: further arguments of `alternate`.
    """
    found = alternate(
        stages,
        models,
        features=[None] * len(models),
        matrix_free=True,
        given=start,
        **{**options, "stagewise": "same", "measured": False},
    )
    words = {"solver": "iterative", "prior": {"kind": "iid", "reason": why}}
    return [replace(own, further={**own.further, **words}) for own in found]


def start_of_search(options: Mapping[str, Any]) -> Given:
    """Noise and prior that the search for independent rewards starts from.

    Args:
        options: `temperature` and `known_policies`, as `malfl_algos.ma_lfl.alternation.alternate`
            takes them.
    """
    unit = options["temperature"] ** 2
    known = all(own is not None for own in options["known_policies"])
    noise = NOISE_BOUNDS[0] if known else START
    return Given(noise * unit, 1.0, unit, searched=True)


class Comparison(NamedTuple):
    """What smooth rewards gain over independent ones.

    Args:
        gains: difference of the log evidences of every agent.
        errors: standard deviations of their errors.
        start: noise and prior variance of independent rewards, geometric means over the agents;
            None: not known.
    """

    gains: tuple[float, ...]
    errors: tuple[float, ...]
    start: Given | None = None

    @property
    def gain(self) -> float:
        """Of all agents."""
        return float(sum(self.gains))

    @property
    def error(self) -> float:
        """Standard deviation of the error of the gain of all agents."""
        return float(np.hypot.reduce(self.errors))

    @property
    def surplus(self) -> float:
        """What the gain exceeds the margin by."""
        return self.gain - MARGIN * len(self.gains)

    @property
    def smooth(self) -> bool:
        """Whether smooth rewards are better by more than the margin and the error."""
        return self.surplus > SURE * self.error

    def words(self) -> str:
        """The choice in words."""
        found = f"smooth rewards change the log evidence of all agents by {self.gain:.1f}"
        found += f", known up to {self.error:.1f}"
        if abs(self.surplus) <= SURE * self.error:
            found += ": too close to tell, and independent rewards claim less"
        return found


def compared(
    stages: Sequence[StageArrays],
    fits: Sequence[AgentFit],
    priors: Sequence[RewardPrior],
) -> Comparison:
    """Compare the smooth rewards of all agents with independent ones, for the data and policies of
    the fits.

    Args:
        stages: of the trace.
        fits: of smooth rewards, with features, of learners that keep nothing of their log policy
            and whose stages are the same.
        priors: of the weights of these features.
    """
    agents = [_Agent(stages, fits, index, prior) for index, prior in enumerate(priors)]
    for step in range(MOST_STEPS):
        for index, agent in enumerate(agents):
            say(f"independent rewards: step {step + 1}, agent {index + 1} of {len(agents)}")
            agent.step()
        found = Comparison(
            tuple(agent.smooth - agent.best.log_evidence for agent in agents),
            tuple(agent.best.error for agent in agents),
            _middle([agent.given for agent in agents]),
        )
        promised = PROMISED * sum(agent.promise for agent in agents)
        sure = found.surplus - promised > SURE * found.error or found.surplus < 0
        if sure or not promised:
            break
    return found


class _Tried(NamedTuple):
    log_evidence: float
    error: float


class _Agent:
    """One agent's evidences; the independent one rises from step to step.

    `given` is the noise and prior variance of its next step.
    """

    def __init__(
        self,
        stages: Sequence[StageArrays],
        fits: Sequence[AgentFit],
        index: int,
        prior: RewardPrior,
    ) -> None:
        fit = fits[index]
        assert fit.data is not None
        data, played = replace(fit.data, measured=False), played_stages(fit.model, stages)
        joint = [[own.policies[h] for own in fits] for h in range(len(played))]
        self._of_agent: Any = data, fit.model, played, joint, index
        self.given = _start(fit)
        self.smooth = self._smooth_evidence(fit, prior)
        self.best = _Tried(-np.inf, 0.0)
        self.promise = np.inf

    def _smooth_evidence(self, fit: AgentFit, prior: RewardPrior) -> float:
        """As in small games with the log density of the settings relative to its largest value."""
        settings = np.array(fit.further["prior"]["settings"])
        again = fit_data(
            *self._of_agent,
            features=fit.features,
            start=None,
            given=replace(self.given, searched=False),
            matrix_free=True,
            root=shape_root(prior, settings)[0],
        )
        found = again.posterior.evidence.log_evidence
        assert found is not None
        return found + prior.log_density(settings)[0]

    def step(self) -> None:
        """Try the next noise and prior variance, if there are any."""
        if self.promise == 0:
            return
        found: MatrixFreePosterior = matrix_free_posterior(
            matrix_free_rows(*self._of_agent), self.given
        )
        evidence, error = found.evidence.log_evidence, found.evidence_error
        assert evidence is not None
        assert error is not None
        if evidence > self.best.log_evidence:
            self.best = _Tried(evidence, error)
        self.promise = 0.0 if found.settled else found.promise
        if found.improved is not None:
            self.given = found.improved


def _middle(found: Sequence[Given]) -> Given:
    logs = [
        np.log([getattr(own, name) or 1.0 for own in found]).mean()
        for name in ("noise_variance", "noise_scale", "prior_variance")
    ]
    noise, scale, prior = np.exp(logs).tolist()
    return Given(noise, scale, prior, searched=True)


def _start(fit: AgentFit) -> Given:
    at = fit.posterior.evidence
    return Given(at.noise_variance, at.noise_scale, at.prior_variance, searched=True)
