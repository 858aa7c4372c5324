"""Observer `logel`: LOGEL (Ramponi et al., NeurIPS 2020) for each agent separately.

It assumes that an agent changes the parameters of a softmax policy along the gradient of its
discounted return, and that its reward is linear in features. Behavioural cloning estimates the
parameters of every stage from the played actions; then weights and step sizes are fitted in turn.
The other agents are a part of the environment, with the policies that they play in each stage.

Read these files in this order: this one, `policy_gradients` (from a trace to gradients),
`malfl_algos.ma_lfl.gpomdp` (the gradients), then in `malfl_algos.baselines`: `gradient_learner`
(weights and step sizes) and `gradient_history` (`fit: history`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from malfl_algos.baselines.gradient_history import HistoryFit, fit_history
from malfl_algos.baselines.gradient_learner import (
    GradientFit,
    fit_weights,
    softmax_parameters,
)
from malfl_algos.contract import API_VERSION, Problem, RecoveredRewards, Source
from malfl_algos.ma_lfl.adam import cloned_policies
from malfl_algos.ma_lfl.policy_estimation import smoothed_policy
from malfl_algos.ma_lfl.reward_models import feature_maps
from malfl_algos.observers.policy_gradients import (
    computed_gradients,
    followed_gradient,
    sampled_gradients,
)
from malfl_algos.observers.reading import check_pseudo_count, dynamics_of, stage_arrays
from malfl_algos.trace import LearningTrace
from malfl_algos.work.threads import one_blas_thread
from malfl_env.checks import check_table_bytes
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = ["Logel"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Logel:
    """LOGEL: the reward weights that explain an agent's steps along its policy gradient.

    Args:
        features: phi, `(n_states, k)` or `(n_states, *n_actions, k)`; the reward is phi times
            weights. None: one feature per state.
        gradient: gradients of the feature expectations: `gpomdp` estimates them from the ordered
            steps of each stage, as the paper does; `exact` computes them from the dynamics; `auto`:
            `gpomdp` if the trace holds the steps.
        parameters: of the learner's softmax policy: `all`, one logit per action; `last-fixed`: the
            logit of the last action is 0, as in the paper's grid world.
        step_sizes: `estimated`, one per stage, as in the paper; or `constant` over the stages.
        cloning: estimate of the policies: `likelihood`, the maximum of the likelihood with
            pseudo-counts; or `published`, the few steps of Adam of the authors' code.
        constant: `removed`: the features enter less their means, because a constant reward has no
            gradient; or `fitted`, as in the authors' code: they enter as they are, so that the
            weights also fit the noise of that gradient in the episodes. The latter needs features.
        pseudo_count: pseudo-count c > 0 in the policy estimate `(n(s, a) + c) / (N(s) + |A| c)`. In
            rarely visited states it keeps the change of the parameters small.
        fit: `alternating`, as in the paper: cloned policies, then weights and step sizes in turn;
            or `history`, which is ours: no policy is cloned, because a learner with a constant step
            size that starts from the uniform policy has no freedom left; the weights make the
            actions of all stages most likely, and have a posterior. It needs the trace from the
            start of learning, and its time grows with the number of features.
        prior_variance: of `history`: prior variance > 0 of every weight times the step size.
        covariance: of `history`: whether to return the posterior covariance of the reward.

    The scale of the reward is open, because only step size times reward shows: the mean step size
    is taken as 1.
    """

    features: Any = field(default=None, compare=False)
    gradient: Literal["auto", "gpomdp", "exact"] = "auto"
    parameters: Literal["all", "last-fixed"] = "all"
    step_sizes: Literal["estimated", "constant"] = "estimated"
    cloning: Literal["likelihood", "published"] = "likelihood"
    constant: Literal["removed", "fitted"] = "removed"
    pseudo_count: float = 10.0
    fit: Literal["alternating", "history"] = "alternating"
    prior_variance: float = 3.0
    covariance: bool = False

    api_version: ClassVar[tuple[int, int]] = API_VERSION

    def __post_init__(self) -> None:
        for name, allowed in (
            ("gradient", ("auto", "gpomdp", "exact")),
            ("parameters", ("all", "last-fixed")),
            ("step_sizes", ("estimated", "constant")),
            ("cloning", ("likelihood", "published")),
            ("constant", ("removed", "fitted")),
            ("fit", ("alternating", "history")),
        ):
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}"
                )
        check_pseudo_count(self.pseudo_count)
        if not 0 < self.prior_variance < np.inf:
            raise InputError(f"prior_variance must be > 0 and finite, got {self.prior_variance}")
        if self.covariance and self.fit != "history":
            raise InputError("covariance needs fit history: alternating has no posterior")
        if self.constant == "fitted" and (self.features is None or self.fit == "history"):
            raise InputError("constant fitted needs features, and fit alternating")

    def check_size(self, n_states: int, n_actions: tuple[int, ...], n_stages: int) -> None:
        """Reject a game that is too large for this method; see `malfl_algos.contract.Observer`."""
        if self.features is None:
            _check_size(n_states, n_states, n_actions, n_stages)

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

        The temperature is not used. The game is used by `exact` alone; None: it is estimated. The
        mean of the reward is 0, because a constant reward has no gradient.

        Raises:
            InputError: also if the discount is None, if `gpomdp` lacks the ordered steps of a
                stage, or if a stage holds no data.
        """
        problem = Problem(trace, game, discount, temperature, known_policies)
        problem.require_stages()
        discount = problem.given("discount")
        if not trace.is_tabular:
            dynamics_of(trace, None)  # rejects it
        _check_data(trace)
        if self.fit == "history":
            with one_blas_thread():
                return self._histories(problem)
        features, maps = self._features(trace)
        log_policies = [self._log_policies(problem, index) for index in range(trace.n_agents)]
        chosen = self._gradient_of(trace)
        rewards, diagnostics = {}, {}
        with one_blas_thread():
            for index, agent in enumerate(trace.agents):
                if chosen == "gpomdp":
                    gains = self._gains(features)
                    gradients = sampled_gradients(trace, log_policies, index, gains, discount)
                else:
                    gradients = computed_gradients(
                        problem, log_policies, index, maps[index], discount
                    )
                fit = self._fit(log_policies[index], gradients)
                reward = features @ fit.weights
                rewards[agent] = reward - reward.mean() if self.constant == "fitted" else reward
                diagnostics[agent] = self._diagnose(fit, chosen, features, problem.trace)
        return RecoveredRewards(
            rewards=rewards,
            diagnostics=diagnostics,
            estimated_policies={
                agent: np.exp(log) for agent, log in zip(trace.agents, log_policies, strict=True)
            },
            source=Source.of(problem, self),
        )

    def history(
        self, problem: Problem, index: int, counted: slice = slice(None)
    ) -> tuple[HistoryFit, FloatArray]:
        """The weights under which one agent's actions are most likely, as `fit: history` has them.

        Args:
            problem: what the observer is given; its discount is not None.
            index: the agent.
            counted: stages whose actions count; the steps of all stages are followed.

        Returns:
            The fit, and the features less their means.
        """
        trace = problem.trace
        features, maps = self._features(trace)
        log_policies = [self._log_policies(problem, agent) for agent in range(trace.n_agents)]
        agent, basis = trace.agents[index], _basis(features)
        counts = np.stack([own.action_counts(index) for own in trace.stages]).astype(np.float64)
        if agent in problem.known:
            counts = counts.sum(axis=2, keepdims=True) * problem.known[agent]
        used = np.zeros_like(counts)
        used[counted] = counts[counted]
        fit = fit_history(
            used,
            followed_gradient(
                problem,
                log_policies,
                index,
                (features @ basis, maps[index] @ basis),
                self._gradient_of(trace),
            ),
            basis.shape[1],
            last_fixed=self.parameters == "last-fixed",
            prior_variance=self.prior_variance,
        )
        covariance = basis @ fit.covariance @ basis.T
        return replace(fit, weights=basis @ fit.weights, covariance=covariance), features

    def _histories(self, problem: Problem) -> RecoveredRewards:
        """The rewards under which the whole history is most likely, with their posterior."""
        trace, chosen = problem.trace, self._gradient_of(problem.trace)
        parts: dict[str, dict[str, Any]] = {
            name: {} for name in ("rewards", "diagnostics", "sd", "covariance", "policies")
        }
        for index, agent in enumerate(trace.agents):
            fit, features = self.history(problem, index)
            flat = features.reshape(-1, features.shape[-1])
            parts["rewards"][agent] = features @ fit.weights
            variance = np.einsum("rk,kl,rl->r", flat, fit.covariance, flat)
            parts["sd"][agent] = np.sqrt(np.maximum(variance, 0)).reshape(features.shape[:-1])
            if self.covariance:
                parts["covariance"][agent] = flat @ fit.covariance @ flat.T
            parts["policies"][agent] = np.exp(fit.log_policies)
            parts["diagnostics"][agent] = self._diagnose(fit, chosen, features, problem.trace)
        return RecoveredRewards(
            rewards=parts["rewards"],
            diagnostics=parts["diagnostics"],
            estimated_policies=parts["policies"],
            sd=parts["sd"],
            covariance=parts["covariance"] or None,
            source=Source.of(problem, self),
        )

    def _features(self, trace: LearningTrace) -> tuple[FloatArray, list[FloatArray]]:
        """The features, less their means if the constant is removed, as a table over joint states
        (and actions), and as each agent's unknowns by weights.
        """
        table = np.eye(trace.n_states) if self.features is None else self.features
        feature_maps(table, trace.n_states, trace.n_actions)
        table = np.asarray(table, dtype=np.float64)
        if self.constant == "removed":
            table = table - table.reshape(-1, table.shape[-1]).mean(axis=0)
        _check_size(table.shape[-1], trace.n_states, trace.n_actions, trace.n_stages)
        if table.ndim == 2:
            return table, [table] * trace.n_agents
        k = table.shape[-1]
        own_first = [np.moveaxis(table, index + 1, 1) for index in range(trace.n_agents)]
        return table, [own.reshape(*own.shape[:2], -1, k) for own in own_first]

    def _gains(self, features: FloatArray) -> FloatArray | sp.csr_array:
        return sp.eye_array(len(features), format="csr") if self.features is None else features

    def _log_policies(self, problem: Problem, index: int) -> FloatArray:
        """The agent's log policies, `(n_stages, n_states, n_actions)`: known, or cloned."""
        known = problem.known.get(problem.trace.agents[index])
        if known is not None:
            if np.any(known <= 0):
                raise InputError(
                    f"the known policy of {problem.trace.agents[index]} has a probability of 0, "
                    "which no softmax policy has: leave the policy out"
                )
            return np.log(known)
        counts = np.stack([stage.action_counts(index) for stage in problem.trace.stages])
        if self.cloning == "published":
            return cloned_policies(counts, last_fixed=self.parameters == "last-fixed")
        return np.log(smoothed_policy(counts, pseudo_count=self.pseudo_count))

    def _gradient_of(self, trace: LearningTrace) -> Literal["gpomdp", "exact"]:
        without = [
            number
            for number, stage in enumerate(stage_arrays(trace)[:-1])
            if stage.steps is None or not len(stage.steps.states)
        ]
        if self.gradient == "gpomdp" and without:
            raise InputError(
                f"gradient gpomdp needs the ordered steps of every stage, stage {without[0]} has "
                "none: let the learner keep them (keep_transitions: true), or set gradient to exact"
            )
        if self.gradient == "auto":
            return "exact" if without else "gpomdp"
        return self.gradient

    def _fit(self, log_policies: FloatArray, gradients: FloatArray) -> GradientFit:
        last_fixed = self.parameters == "last-fixed"
        changes = np.diff(softmax_parameters(log_policies, last_fixed=last_fixed), axis=0)
        if last_fixed:
            gradients = gradients[:, :, :-1]
        equal = np.ones(len(changes)) if self.step_sizes == "constant" else None
        return fit_weights(
            changes.reshape(len(changes), -1),
            gradients.reshape(len(changes), -1, gradients.shape[-1]),
            step_sizes=equal,
        )

    def _diagnose(
        self,
        fit: GradientFit | HistoryFit,
        chosen: str,
        features: FloatArray,
        trace: LearningTrace,
    ) -> dict[str, Any]:
        k = features.shape[-1]
        seen = np.any([stage.state_counts > 0 for stage in trace.stages], axis=0)
        known = features[seen].reshape(-1, k)
        rank = int(np.linalg.matrix_rank(known - known.mean(axis=0)))
        # in sampled gradients the weights also fit the noise of a constant's
        constants = self.constant == "fitted" and chosen == "gpomdp"
        free = rank - (fit.rank - constants)
        words = f"not identified: {free} of {rank} directions are unidentified"
        if free <= 0:
            words = "identified up to one additive constant and a positive factor"
        if not seen.all():
            words += f"; {int((~seen).sum())} joint states without data are not counted"
        if isinstance(fit, HistoryFit):
            own: dict[str, Any] = {
                "prior_variance": self.prior_variance,
                "log_likelihood": fit.log_likelihood,
                "gain": fit.gain,
                "representative": "the weights of highest posterior density",
            }
        else:
            own = {
                "cloning": self.cloning,
                "constant": self.constant,
                "step_sizes": fit.step_sizes.tolist(),
                "residual": fit.residual,
                "representative": "the weights of smallest norm; the mean of the reward is 0",
            }
        return {
            "method": "logel",
            "learner_model": "gradient of the discounted return in the logits",
            "reward_model": "features" if self.features is not None else "state",
            "n_unknowns": k,
            "rank": fit.rank,
            "n_unidentified": max(free, 0),
            "identification": words,
            "scale": "open: the mean step size is taken as 1",
            "gradient": chosen,
            "parameters": self.parameters,
            "fit": self.fit,
            "weights": fit.weights.tolist(),
            "iterations": fit.iterations,
            "converged": fit.converged,
            **own,
        }


def _check_data(trace: LearningTrace) -> None:
    for number, stage in enumerate(trace.stages):
        if not stage.counts.any():
            raise InputError(
                f"stage {number} holds no data, so its policy cannot be cloned: recover from the "
                "stages before it (LearningTrace.first), or remove it from the trace"
            )


def _basis(features: FloatArray) -> FloatArray:
    """Orthonormal directions of the weights that change the reward, `(k, rank)`."""
    _, sizes, right = np.linalg.svd(features.reshape(-1, features.shape[-1]), full_matrices=False)
    return np.asarray(right[sizes > 1e-10 * sizes[0]].T)


def _check_size(k: int, n_states: int, n_actions: tuple[int, ...], n_stages: int) -> None:
    check_table_bytes(
        8 * (n_stages - 1) * n_states * max(n_actions) * k,
        f"the gradients of {k} features in {n_states * max(n_actions)} parameters",
    )
