"""The observer `ma-lfl-history`: rewards that explain the whole learning history at once.

Read these files in this order: this one, then in `malfl_algos.ma_lfl`: `history` (the history under
given rewards, and its derivatives), `history_fit` (Gauss-Newton steps, posterior, evidence),
`low_rank_priors` and `history_settings` (priors, and what is chosen among them).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from malfl_algos.contract import API_VERSION, Problem, RecoveredRewards, Source
from malfl_algos.ma_lfl.history import HistoryData, follow
from malfl_algos.ma_lfl.history_fit import HistoryFit, fit_history, moves_of_dynamics, split
from malfl_algos.ma_lfl.history_search import STEP_SIZES, rule_of, searched
from malfl_algos.ma_lfl.history_settings import RETAINED, Prior, kernels, uniform_start
from malfl_algos.ma_lfl.learner_models import ExpectedTd
from malfl_algos.ma_lfl.low_rank_priors import basis_of
from malfl_algos.ma_lfl.policy_estimation import CONCENTRATION, smoothed_policy
from malfl_algos.ma_lfl.uncertain_dynamics import DRAWS
from malfl_algos.observers.bayesian_options import check_improvement, check_steps
from malfl_algos.observers.bayesian_result import check_covariance
from malfl_algos.observers.reading import check_data, drawn_dynamics, dynamics_of, stage_arrays
from malfl_algos.observers.state_coordinates import seen_states
from malfl_algos.trace import LearningTrace
from malfl_algos.work.threads import one_blas_thread
from malfl_env.checks import check_table_bytes
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = ["MaLflHistory"]

FloatArray = NDArray[np.float64]

SEARCH_STAGES, SEARCH_COLUMNS = 3, 40
"""Number of first stages from which the share rho is chosen, and of functions that are enough."""
LARGEST_DISCOUNT = 0.9999
"""Soft values are computed iteratively; beyond this discount they do not converge."""
NOTHING_SHOWN = "not identified: the agent has one action, so that its play shows nothing"
EXPLAINED = 0.9
"""A reward that explains less of the variance of the action values is to be doubted."""
LOST = 1.0
"""A fit whose last step is longer than this many posterior standard deviations is an error."""


@dataclass(frozen=True)
class MaLflHistory:
    """Recover all agents' rewards of the state from the whole history of policies.

    The learners start from a known policy and solve equation (5) of the paper in every stage. Their
    rewards then determine all policies, in states that were never visited, too. Td learners update
    the action values of the pairs that they visit; these are then latent, with the learner's noise.
    The rewards are those of largest posterior; their prior is a Gaussian process over the states'
    coordinates.

    Args:
        learner: `exact`: the learners solve (5); `td`: they update q from 0 in every stage; `auto`:
            chosen by the evidence of the first stages.
        step_size: beta of td learners; None: chosen by the evidence.
        prior: `smooth`: rewards of states with near coordinates are alike, over a length that the
            evidence chooses; `iid`: they have nothing to do with one another; `auto`: the evidence
            chooses. Games with more states than `columns` take smooth priors only.
        columns: largest number of functions that the reward of an agent is made of in games with
            more states; what they leave out counts as noise and widens the deviations.
        improvement: share rho of its log policy that a learner keeps in an improvement: 0 for soft
            policy iteration, up to 0.9 for natural policy gradient; `auto`: chosen by the evidence.
        covariance: whether to return the posterior covariance of the mean-removed reward.
        horizon: number of first stages that the rewards are fitted to, from 2; None: all. On large
            boards late stages take most of the time.
    """

    learner: Literal["auto", "exact", "td"] = "auto"
    step_size: float | None = 0.1
    prior: Literal["auto", "iid", "smooth"] = "auto"
    columns: int = 200
    improvement: float | Literal["auto"] = "auto"
    covariance: bool = False
    horizon: int | None = None

    api_version: ClassVar[tuple[int, int]] = API_VERSION

    def __post_init__(self) -> None:
        if self.learner not in ("auto", "exact", "td"):
            raise InputError(
                f"learner must be auto, exact or td, got {self.learner!r}: for others use "
                "ma-lfl-bellman"
            )
        check_steps(self.step_size, None)
        if self.prior not in ("auto", "iid", "smooth"):
            raise InputError(f"prior must be auto, iid or smooth, got {self.prior!r}")
        if self.columns < 1:
            raise InputError(f"columns must be >= 1, got {self.columns}")
        if self.horizon is not None and self.horizon < 2:
            raise InputError(f"horizon must be >= 2 or null (all stages), got {self.horizon}")
        check_improvement(self.improvement)
        if self.improvement != "auto" and self.improvement >= 1:
            raise InputError(
                f"improvement must be auto or below 1, got {self.improvement}: for learners that "
                "keep all of their log policy, use ma-lfl-bellman"
            )

    def check_size(self, n_states: int, n_actions: tuple[int, ...], n_stages: int) -> None:
        """Reject a game that is too large for this method; see `malfl_algos.contract.Observer`."""
        n_weights = len(n_actions) * (min(self.columns, n_states) + 1)
        n_bytes = 4 * n_states * max(n_actions) * n_weights
        check_table_bytes(n_bytes, f"the derivatives of a policy in {n_states} joint states")

    def recover(
        self,
        trace: LearningTrace,
        *,
        game: MarkovGame | None,
        discount: float | None,
        temperature: float | None,
        known_policies: Mapping[str, FloatArray] | None = None,
    ) -> RecoveredRewards:
        """Recover every agent's reward; see `malfl_algos.contract.Observer`.

        The reward has mean zero, since the data hardly determine its level. The first policies are
        the known ones, or uniform; if the counts of the first stage contradict uniform policies,
        they are estimated from these counts, and the diagnostic `first_policy` says so. Dynamics
        may be estimated; their uncertainty enters the deviations to first order, by draws from
        their posterior. The discount must be given; `ma-lfl-bellman` estimates it with an interval.

        Raises:
            InputError: for a stage without data, a discount that is missing or above 0.9999, or a
                prior that the states have no coordinates for.
            ArithmeticError: if the last step is longer than one posterior standard deviation; the
                message has the last good point.
        """
        problem = Problem(trace, game, discount, temperature, known_policies)
        check_data(problem)
        if problem.given("discount") > LARGEST_DISCOUNT:
            raise InputError(
                f"discount must be at most {LARGEST_DISCOUNT} for this observer, got "
                f"{problem.discount}"
            )
        known_game, covered = dynamics_of(trace, problem.game)
        self.check_size(trace.n_states, trace.n_actions, trace.n_stages)
        coordinates = self._coordinates(problem)
        if self.covariance:
            check_covariance("state", trace)
        data, first = _data(problem, known_game)
        with one_blas_thread():
            data, searches = self._searched(data, coordinates)
            prior = self._prior(data, coordinates, self.columns)
            horizon = min(self.horizon or trace.n_stages, trace.n_stages)
            found = fit_history(data, prior, horizon=horizon)
        if not found.distance <= LOST:
            e = found.posterior.evidence
            raise ArithmeticError(
                f"the history did not converge: after {found.steps} steps the last one was still "
                f"{found.distance:.1f} posterior standard deviations long (allowed: {LOST:g}), at "
                f"log evidence {found.log_evidence:.1f}, noise variance {e.noise_variance:.2g} and "
                f"prior variance {e.prior_variance:.2g}: the learners may follow another rule; "
                "ma-lfl-bellman tries several"
            )
        further = {
            "first_policy": first,
            "states_without_dynamics": int((~covered).sum()),
            "searches": searches,
        }
        moves = None
        if problem.game is None:
            with one_blas_thread():
                moves = moves_of_dynamics(data, prior, found, drawn_dynamics(trace, DRAWS))
            further["dynamics_draws"] = DRAWS
        return _result(problem, data, found, prior, moves, further, self)

    def _coordinates(self, problem: Problem) -> FloatArray:
        """The coordinates of the joint states; their numbers alone for independent rewards."""
        seen, n_states = seen_states(problem.trace, problem.game), problem.trace.n_states
        if self.prior == "iid" and n_states > self.columns:
            other = "" if seen is None else ", or prior to auto"
            raise InputError(
                f"prior iid needs as many columns as joint states, {n_states}, got "
                f"{self.columns}: set columns{other}"
            )
        if seen is None and (self.prior == "smooth" or n_states > self.columns):
            raise InputError(
                f"prior {self.prior} of {n_states} joint states needs states with coordinates, "
                "these have numbers or names only: set prior to iid, and columns to at least the "
                "number of joint states"
            )
        if seen is None:
            return np.arange(n_states, dtype=np.float64)[:, None]
        return np.hstack(seen.coordinates)

    def _prior(self, data: HistoryData, coordinates: FloatArray, columns: int) -> Prior:
        basis = basis_of(coordinates, most=columns)
        kind = "iid" if coordinates.shape[1] == 1 else self.prior
        return Prior(basis, kernels(kind, basis), len(data.counts), data.discount)

    def _searched(
        self, data: HistoryData, coordinates: FloatArray
    ) -> tuple[HistoryData, dict[str, Any]]:
        """The data with learner, step size and share rho, given or of largest evidence in the first
        stages, and what was tried.
        """
        complete = len(coordinates) <= self.columns
        columns = self.columns if complete else min(self.columns, SEARCH_COLUMNS)
        horizon = min(SEARCH_STAGES, len(data.counts[0]))
        shares: Sequence[float] = RETAINED if horizon == SEARCH_STAGES else RETAINED[:1]
        if self.improvement != "auto":
            shares = [float(self.improvement)]
        td = ExpectedTd(data.game, "state", data.discount, data.temperature, self.step_size or 0.1)
        learners: dict[str, list[ExpectedTd | None]] = {
            "auto": [None, td],
            "exact": [None],
            "td": [td],
        }

        @cache
        def prior(columns: int) -> Prior:
            return self._prior(data, coordinates, columns)

        @cache
        def evidence(own: HistoryData, columns: int) -> float:
            return fit_history(own, prior(columns), horizon=horizon).log_evidence

        return searched(
            data,
            lambda own: evidence(own, columns),
            lambda own: evidence(own, self.columns),
            learners=learners[self.learner],
            step_sizes=STEP_SIZES if self.step_size is None else [self.step_size],
            shares=shares,
        )


def _data(problem: Problem, game: MarkovGame) -> tuple[HistoryData, str]:
    """The counts and first policies, and what the first policies are."""
    trace, known = problem.trace, problem.known
    counts = [
        np.stack([stage.action_counts(index) for stage in trace.stages]).astype(np.float64)
        for index in range(trace.n_agents)
    ]
    uniform = uniform_start([own[0] for own in counts])
    first = []
    for agent, own in zip(trace.agents, counts, strict=True):
        policy = np.full(own[0].shape, 1 / own.shape[-1])
        if agent in known:
            policy = known[agent][0]
        elif not uniform:
            policy = smoothed_policy(own[0].astype(np.int64), pseudo_count=CONCENTRATION)
        first.append(np.log(np.maximum(policy, 1e-300)))
    data = HistoryData(
        game,
        counts,
        first,
        [known.get(agent) for agent in trace.agents],
        problem.given("discount"),
        1.0,  # rewards are fitted in units of the temperature
        stages=stage_arrays(trace),
    )
    words = "uniform" if uniform else "estimated"
    return data, "known" if len(known) == trace.n_agents else words


def _explained(found: HistoryFit, index: int) -> float:
    """Share of the variance of one agent's action values that its reward explains."""
    own = [stage.predicted[index].x for stage in found.history.stages]
    x = np.concatenate([one - one.mean(axis=1, keepdims=True) for one in own])
    told, noise = float((x**2).mean()), found.posterior.evidence.noise_variance
    return told / (told + noise)


def _policies(
    data: HistoryData, found: HistoryFit, rewards: Sequence[FloatArray]
) -> list[FloatArray]:
    """Per agent its policies in all stages, `(n_stages, n_states, n_actions)`."""
    history, n_stages = found.history, len(data.counts[0])
    if len(history.stages) + 1 < n_stages:
        history = follow(data, rewards, history.noise_variance, horizon=n_stages, near=history)
    return [
        np.exp(np.stack([first, *(stage.following[index] for stage in history.stages)]))
        for index, first in enumerate(history.stages[0].log_policies)
    ]


def _said(identification: str, n_actions: int, explained: float) -> dict[str, Any]:
    """What is said of one agent alone."""
    if n_actions == 1:
        return {"identification": NOTHING_SHOWN, "explained": None}
    if explained < EXPLAINED:
        identification += (
            f"; doubt this reward: it explains {explained:.0%} of the variance of the action "
            "values, so it is rougher than these functions or the rule is another: raise columns, "
            "or use ma-lfl-bellman"
        )
    return {"identification": identification, "explained": explained}


def _result(
    problem: Problem,
    data: HistoryData,
    found: HistoryFit,
    prior: Prior,
    moves: FloatArray | None,
    further: Mapping[str, Any],
    observer: MaLflHistory,
) -> RecoveredRewards:
    agents, evidence = problem.trace.agents, found.posterior.evidence
    left_out = prior.basis.left_out(found.kernel)
    cut = bool(left_out.any())
    posterior = found.posterior.repeated(found.repeats) if cut else found.posterior
    covariance = posterior.covariance()
    if moves is not None:
        spread = covariance @ moves / (found.repeats if cut else 1.0)
        covariance = covariance + spread @ spread.T / spread.shape[1]
    centred = prior.basis.functions @ prior.root(found.kernel)
    centred -= centred.mean(axis=0)
    width, left = centred.shape[1], evidence.prior_variance * left_out
    if cut:  # the noise holds what is left out of the next states' rewards, and misfit beyond it
        shown = evidence.noise_variance / max(data.discount, 0.1) ** 2
        left = left + max(shown - float(left.mean()), 0.0)
    unit = 1.0 if problem.temperature is None else problem.temperature
    sds, covariances = {}, {}
    for index, agent in enumerate(agents):
        own = covariance[index * width :, index * width :][:width, :width]
        variance = np.maximum(((centred @ own) * centred).sum(axis=1), 0.0) + left
        sds[agent] = unit * np.sqrt(variance)
        if observer.covariance:
            covariances[agent] = unit**2 * (centred @ own @ centred.T + np.diag(left))
    tables = split([prior.basis.functions] * len(agents), found.weights)
    rewards = {
        agent: unit * (table - table.mean()) for agent, table in zip(agents, tables, strict=True)
    }
    shares = np.linalg.solve(found.posterior.precision, found.posterior.information)
    effective, kernel = float(np.trace(shares)), found.kernel
    explained = [_explained(found, index) for index in range(len(agents))]
    content = {
        "learner_model": f"{rule_of(data)} evaluation, whole history",
        "rule": rule_of(data),
        "step_size": None if data.td is None else data.td.step_size,
        "reward_model": "state",
        "discount": data.discount,
        "improvement": data.retained,
        "n_stages": len(found.history.stages) + 1,
        "n_unknowns": len(agents) * data.game.n_states,
        "effective_parameters": effective,
        "identification": (
            f"the data of all agents determine about {effective:.0f} directions of the rewards "
            f"made of {len(agents) * width} functions; the others come from the prior, except for "
            f"the mean of each reward, which is not known"
        ),
        "representative": "largest posterior, mean removed",
        "log_evidence": evidence.log_evidence,
        "noise_variance": unit**2 * evidence.noise_variance,
        "prior_variance": unit**2 * evidence.prior_variance,
        "prior_length": kernel.length if kernel.share else None,
        "prior_form": kernel.form if kernel.share else None,
        "prior_share": kernel.share,
        "prior_left_out": float(left_out.mean()),
        "bounds_hit": list(evidence.bounds_hit),
        "passes": found.steps,
        "settled": found.converged,
        "unit": "temperature" if problem.temperature is None else "given",
        **further,
    }
    policies = _policies(data, found, tables)
    return RecoveredRewards(
        rewards=rewards,
        diagnostics={
            agent: {**content, **_said(content["identification"], n, share)}
            for agent, n, share in zip(agents, problem.trace.n_actions, explained, strict=True)
        },
        estimated_policies=dict(zip(agents, policies, strict=True)),
        sd=sds,
        covariance=covariances or None,
        source=Source.of(problem, observer),
    )
