"""Observer `trex`: T-REX (Brown et al., ICML 2019), which ranks behaviour by stage.

It assumes only that agents improve: a piece of an episode from a later stage has a higher sum of
rewards than one from an earlier stage. It needs no game, no discount and no temperature, and it
reads tables and observations alike. Agents improve together, so that a reward of the state alone is
the same for all agents that observe the same.

Read these files in this order: this one, `malfl_algos.baselines.ranking` (the pairs and the fit),
and for observations `malfl_algos.networks.ranking`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any, ClassVar, Literal

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from malfl_algos.baselines.ranking import (
    RankingFit,
    fit_ranking,
    pairs_of_counts,
    pairs_of_steps,
)
from malfl_algos.contract import API_VERSION, Problem, RecoveredRewards, Source
from malfl_algos.ma_lfl.reward_models import feature_maps, in_joint_order
from malfl_algos.observers.reading import stage_arrays
from malfl_algos.trace import LearningTrace
from malfl_algos.work.threads import one_blas_thread
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = ["Trex"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Trex:
    """T-REX: the reward by which later stages are better than earlier ones.

    Args:
        reward_model: `state`: the reward depends on the joint state (or the agent's observation),
            as in the paper; `own_action`: also on the agent's own action.
        features: phi, `(n_states, k)`, for tabular traces; the reward is phi times weights. None:
            one weight per state (and own action).
        snippet_length: largest number of steps of the compared pieces of episodes, >= 1; the
            paper has 50.
        pairs: number of pairs of pieces, >= 1. Stages without ordered steps are compared as wholes
            by their visits, each with each other.
        ridge: weight > 0 of the squared weights of the reward, the inverse of their prior variance.
        hidden: widths of the layers of random units that a reward of observations is linear in.
        seed: seed of the pairs and of the random units, >= 0.
    """

    reward_model: Literal["state", "own_action"] = "state"
    features: Any = field(default=None, compare=False)
    snippet_length: int = 50
    pairs: int = 5000
    ridge: float = 10.0
    hidden: tuple[int, ...] = (256,)
    seed: int = 0

    api_version: ClassVar[tuple[int, int]] = API_VERSION

    def __post_init__(self) -> None:
        if self.reward_model not in ("state", "own_action"):
            raise InputError(f"reward_model must be state or own_action, got {self.reward_model!r}")
        if self.features is not None and self.reward_model != "state":
            raise InputError("features need reward_model state, got own_action")
        for name in ("snippet_length", "pairs"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be >= 1, got {getattr(self, name)}")
        if not 0 < self.ridge < np.inf:
            raise InputError(f"ridge must be > 0 and finite, got {self.ridge}")
        if not self.hidden or min(self.hidden) < 1:
            raise InputError(f"hidden must be at least one width >= 1, got {self.hidden}")
        if self.seed < 0:
            raise InputError(f"seed must be >= 0, got {self.seed}")

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

        Game, discount, temperature and known policies are not used. From a trace of observations
        the rewards are functions of what an agent observes.

        Raises:
            InputError: also for a stage without data, and for features with observations.
            ArithmeticError: if the fit does not converge.
        """
        problem = Problem(trace, game, discount, temperature, known_policies)
        problem.require_stages()
        for number, stage in enumerate(trace.stages):
            if stage.n_steps == 0:
                raise InputError(
                    f"stage {number} holds no data and cannot be ranked: remove it from the trace"
                )
        with one_blas_thread():
            found = self._tables(trace) if trace.is_tabular else self._functions(trace)
        return replace(found, source=Source.of(problem, self))

    def _tables(self, trace: LearningTrace) -> RecoveredRewards:
        if self.features is not None:
            feature_maps(self.features, trace.n_states, trace.n_actions)
            if np.ndim(self.features) != 2:
                raise InputError(
                    f"features must have shape ({trace.n_states}, k), got {np.shape(self.features)}"
                )
        rewards, diagnostics = {}, {}
        for index, agent in enumerate(trace.agents):
            pairs, kind = self._pairs(trace, index)
            features = None if self.features is None else np.asarray(self.features, np.float64)
            fit = fit_ranking(pairs if features is None else pairs @ features, ridge=self.ridge)
            reward = fit.weights if features is None else features @ fit.weights
            own = reward.reshape(trace.n_states, -1)
            rewards[agent] = in_joint_order(
                own - own.mean(), self.reward_model, index, trace.n_actions
            )
            diagnostics[agent] = {**self._diagnose(fit), "compared": kind}
        return RecoveredRewards(rewards=rewards, diagnostics=diagnostics)

    def _pairs(self, trace: LearningTrace, index: int) -> tuple[sp.csr_array, str]:
        """Pairs over rows of the state (and own action), and what is compared."""
        n_own = trace.n_actions[index] if self.reward_model == "own_action" else 1
        n_rows = trace.n_states * n_own
        rows, ends = [], []
        for stage in stage_arrays(trace):
            if stage.steps is None or len(stage.steps.states) == 0:
                counts = np.stack([own.action_counts(index) for own in trace.stages])
                visits = counts if n_own > 1 else counts.sum(axis=2)
                flat = visits.reshape(trace.n_stages, n_rows).astype(np.float64)
                return pairs_of_counts(flat, length=self.snippet_length), "visits of stages"
            own = stage.steps.states.astype(np.int64) * n_own
            if n_own > 1:
                own = own + stage.steps.joint_actions[:, index]
            rows.append(own)
            ends.append(stage.steps.episode_ends)
        pairs = pairs_of_steps(
            rows,
            ends,
            n_rows=n_rows,
            n_pairs=self.pairs,
            length=self.snippet_length,
            rng=np.random.default_rng(self.seed),
        )
        return pairs, "pieces of episodes"

    def _functions(self, trace: LearningTrace) -> RecoveredRewards:
        if self.features is not None:
            raise InputError("features are for tabular traces; this trace holds observations")
        if find_spec("torch") is None:
            raise InputError(
                'a trace of observations needs PyTorch: pip install "malfl-env[torch]"'
            )
        from malfl_algos.networks.ranking import ranked_rewards

        found = ranked_rewards(
            trace,
            model=self.reward_model,
            snippet_length=self.snippet_length,
            n_pairs=self.pairs,
            ridge=self.ridge,
            hidden=self.hidden,
            seed=self.seed,
        )
        return found.with_diagnostics(
            {
                agent: {**self._diagnose(fit), "compared": "pieces of episodes"}
                for agent, fit in found.fits.items()
            }
        )

    def _diagnose(self, fit: RankingFit) -> dict[str, Any]:
        return {
            "method": "trex",
            "learner_model": "later stages are better",
            "reward_model": "features" if self.features is not None else self.reward_model,
            "n_unknowns": len(fit.weights),
            "identification": (
                "not identified: a ranking of stages determines at most what became more frequent "
                "with learning"
            ),
            "representative": "the reward of highest posterior density; its mean is 0",
            "scale": "open: set by the ridge",
            "loss": fit.loss,
            "ranked": fit.ranked,
            "gradient": fit.gradient,
            "iterations": fit.iterations,
        }
