"""The paper's observer (Algorithm 2): `ma-lfl` and its variants.

It estimates the policies of all agents in every stage by (10), computes the targets (11), and
solves (12) for a reward and one free potential per stage.

Read these files in this order: this one, `reading` (from a trace to arrays), then in
`malfl_algos.ma_lfl`: `policy_estimation` (10), `recovery` (11), `regression` (12), and `adam` for
`ma-lfl-faithful`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from malfl_algos.contract import API_VERSION, Problem, RecoveredRewards, Source
from malfl_algos.ma_lfl.adam import adam_policy, adam_regression, published_design
from malfl_algos.ma_lfl.policy_estimation import entropy_regularised_policy
from malfl_algos.ma_lfl.recovery import Improvements, improvements_of
from malfl_algos.ma_lfl.regression import (
    Fit,
    check_size,
    design_matrix,
    least_squares,
    potential_matrix,
    reward_blocks,
)
from malfl_algos.ma_lfl.reward_models import RewardModel, identification, in_joint_order
from malfl_algos.observers.reading import dynamics_of
from malfl_algos.trace import LearningTrace
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = [
    "MaLfl",
    "MaLflFaithful",
    "MaLflOwnAction",
    "MaLflState",
    "equations_of",
    "fit_by_adam",
]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class MaLfl:
    """The paper's observer, with its equations (10) and (12) solved exactly.

    Args:
        reward_model: `joint` r(s, a^1..a^n), `own_action` r(s, a^i) or `state` r(s).
        entropy_coefficient: weight lambda >= 0 of the entropy bonus in the policy estimate,
            equation (10) of the paper.
    """

    reward_model: RewardModel = "joint"
    entropy_coefficient: float = 0.3

    api_version: ClassVar[tuple[int, int]] = API_VERSION

    def __post_init__(self) -> None:
        if self.reward_model not in ("joint", "own_action", "state"):
            raise InputError(
                f"reward_model must be joint, own_action or state, got {self.reward_model!r}"
            )
        if not 0 <= self.entropy_coefficient < np.inf:
            raise InputError(
                f"entropy_coefficient must be >= 0 and finite, got {self.entropy_coefficient}"
            )

    def check_size(self, n_states: int, n_actions: tuple[int, ...], n_stages: int) -> None:
        """Reject a game that is too large for this method; see `malfl_algos.contract.Observer`."""
        check_size(n_stages - 1, n_states)

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

        Raises:
            InputError: also if the discount is None, because free potentials do not determine it.
        """
        problem = Problem(trace, game, discount, temperature, known_policies)
        problem.require_stages()
        discount, temperature = problem.given("discount"), problem.given("temperature")
        game, covered = self._dynamics(problem)
        known = problem.known
        policies = self._policies(trace, known)
        visits = np.stack([stage.state_counts for stage in trace.stages])
        visited = visits > 0
        if set(known) == set(trace.agents):
            visited[:] = True  # no policy is estimated, so no row depends on visits
        seen = visited[:-1] & visited[1:] & covered
        averaged = self._averaged(policies, visits)
        fits, targets, diagnostics = {}, {}, {}
        for index, agent in enumerate(trace.agents):
            improvements = improvements_of(
                game,
                policies,
                index,
                seen,
                averaged=averaged,
                discount=discount,
                temperature=temperature,
            )
            targets[agent] = improvements.targets
            fits[agent], further = self._regress(improvements)
            diagnostics[agent] = _diagnose(fits[agent], self.reward_model, seen) | further
        return RecoveredRewards(
            rewards={
                agent: in_joint_order(fit.reward, self.reward_model, index, trace.n_actions)
                for index, (agent, fit) in enumerate(fits.items())
            },
            diagnostics=diagnostics,
            estimated_policies=dict(zip(trace.agents, policies, strict=True)),
            targets=targets,
            potentials={agent: fit.potentials for agent, fit in fits.items()},
            source=Source.of(problem, self),
        )

    def _dynamics(self, problem: Problem) -> tuple[MarkovGame, NDArray[np.bool_]]:
        """The dynamics, and the joint states where they are known."""
        return dynamics_of(problem.trace, problem.game)

    def _policies(self, trace: LearningTrace, known: Mapping[str, FloatArray]) -> list[FloatArray]:
        """Policies per agent, `(n_stages, n_states, n_actions)`: known ones, else estimates from
        counts.
        """
        return [
            known[agent]
            if agent in known
            else np.stack(
                [
                    self._estimate(stage.action_counts(index), index, number)
                    for number, stage in enumerate(trace.stages)
                ]
            )
            for index, agent in enumerate(trace.agents)
        ]

    def _estimate(self, counts: NDArray[np.int64], agent_index: int, stage: int) -> FloatArray:
        return entropy_regularised_policy(counts, entropy_coefficient=self.entropy_coefficient)

    def _averaged(
        self, policies: Sequence[FloatArray], visits: NDArray[np.int64]
    ) -> Sequence[FloatArray]:
        """The policies by which the other agents are averaged into an agent's dynamics."""
        return policies

    def _regress(self, improvements: Improvements) -> tuple[Fit, dict[str, Any]]:
        blocks, potentials = equations_of(improvements, self.reward_model)
        return least_squares(blocks, potentials, improvements.targets, improvements.seen), {}


@dataclass(frozen=True)
class MaLflOwnAction(MaLfl):
    """The paper's observer with a reward of the state and the agent's own action."""

    reward_model: RewardModel = "own_action"


@dataclass(frozen=True)
class MaLflState(MaLfl):
    """The paper's observer with a reward of the state."""

    reward_model: RewardModel = "state"


@dataclass(frozen=True)
class MaLflFaithful(MaLfl):
    """The paper's observer with the optimiser of its published code: both fits by full-batch Adam.

    Args:
        policy_epochs: number of steps of Adam for the policies, equation (10), >= 1.
        policy_learning_rate: learning rate of Adam for the policies, > 0.
        reward_epochs: number of steps of Adam for the reward, equation (12), >= 1.
        reward_learning_rate: learning rate of Adam for the reward, > 0.
        design: `equations`, the left side of equation (12); or `published_code`, the left side of
            the published code, which has index errors (see `malfl_algos.ma_lfl.adam`). The latter
            needs two agents and the reward model `joint`.
        seed: seed of the random initial logits, >= 0.
    """

    policy_epochs: int = 10
    policy_learning_rate: float = 0.1
    reward_epochs: int = 1000
    reward_learning_rate: float = 0.01
    design: Literal["equations", "published_code"] = "equations"
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("policy_epochs", "reward_epochs"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be >= 1, got {getattr(self, name)}")
        for name in ("policy_learning_rate", "reward_learning_rate"):
            if not 0 < getattr(self, name) < np.inf:
                raise InputError(f"{name} must be > 0 and finite, got {getattr(self, name)}")
        if self.design not in ("equations", "published_code"):
            raise InputError(f"design must be equations or published_code, got {self.design!r}")
        if self.design == "published_code" and self.reward_model != "joint":
            raise InputError(
                f"design published_code needs reward_model joint, got {self.reward_model!r}"
            )
        if self.seed < 0:
            raise InputError(f"seed must be >= 0, got {self.seed}")

    def _estimate(self, counts: NDArray[np.int64], agent_index: int, stage: int) -> FloatArray:
        sequence = np.random.SeedSequence(self.seed, spawn_key=(agent_index, stage))
        return adam_policy(
            counts,
            entropy_coefficient=self.entropy_coefficient,
            learning_rate=self.policy_learning_rate,
            epochs=self.policy_epochs,
            rng=np.random.default_rng(sequence),
        )

    def _regress(self, improvements: Improvements) -> tuple[Fit, dict[str, Any]]:
        blocks, potentials = equations_of(improvements, self.reward_model)
        exact = least_squares(blocks, potentials, improvements.targets, improvements.seen)
        if self.design == "published_code":
            design = published_design(improvements)
        else:
            design = design_matrix(blocks, potentials)
        fit, further = fit_by_adam(
            improvements,
            design,
            exact,
            learning_rate=self.reward_learning_rate,
            epochs=self.reward_epochs,
        )
        return fit, further | {"design": self.design}


def fit_by_adam(
    improvements: Improvements,
    design: sp.csr_array,
    exact: Fit,
    *,
    learning_rate: float,
    epochs: int,
) -> tuple[Fit, dict[str, Any]]:
    """Equation (12) by Adam from zero, stopped after some epochs; and its diagnostics.

    Args:
        improvements: of one agent.
        design: left side of (12), all rows.
        exact: the exact solution, for its rank and residual.
        learning_rate, epochs: of Adam.
    """
    used = np.repeat(improvements.seen.ravel(), improvements.targets.shape[2])
    design, targets = design[used], improvements.targets.ravel()[used]
    unknowns = adam_regression(design, targets, learning_rate=learning_rate, epochs=epochs)
    fit = Fit(
        unknowns[: exact.reward.size].reshape(exact.reward.shape),
        unknowns[exact.reward.size :].reshape(exact.potentials.shape),
        rank=exact.rank,
        residual=float(np.sqrt(np.mean((design @ unknowns - targets) ** 2))),
    )
    return fit, {
        "representative": f"the point of Adam after {epochs} epochs from zero",
        "least_squares_residual": exact.residual,
    }


def equations_of(improvements: Improvements, model: RewardModel) -> tuple[FloatArray, sp.csr_array]:
    """Left side of (12): reward blocks and potential matrix."""
    n_actions = improvements.targets.shape[2]
    return (
        reward_blocks(model, improvements.others, n_actions),
        potential_matrix(improvements.transitions, discount=improvements.discount),
    )


def _diagnose(fit: Fit, model: RewardModel, seen: NDArray[np.bool_]) -> dict[str, Any]:
    per_state = fit.reward.shape[1]
    return {
        "learner_model": "free potentials",
        "reward_model": model,
        "n_unknowns": fit.reward.size,
        **identification(
            n_unknowns=fit.reward.size,
            rank=fit.rank,
            n_without_data=int((~seen.any(axis=0)).sum()) * per_state,
            per_state=per_state,
        ),
        "representative": "the reward of smallest norm among all that fit equally well",
        "residual": fit.residual,
        "rows_left_out": int((~seen).sum()),
        "rows": int(seen.size),
    }
