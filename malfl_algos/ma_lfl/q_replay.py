"""Q-learners whose transitions are all known, in order, replayed with an unknown reward.

Q-learning, SARSA and expected SARSA with ordinary rewards (Sutton and Barto 2018, chapter 6) have
no unobserved draws. So their action values follow from the reward without noise. SARSA's are affine
in it. Those of Q-learning are piecewise affine: affine once it is known which action was the
greatest at each update. They are linearised at the present estimate of the reward.

A constant added to the first action values of all states and actions shifts the reward by a
constant, which is not claimed. So it need not be known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.carried_rules import CarriedRule
from malfl_algos.ma_lfl.q_replay_loops import EXPECTED_SARSA, Q_LEARNING, SARSA, follow
from malfl_algos.ma_lfl.replay import columns_of, steps_of, unknowns_of
from malfl_algos.ma_lfl.reward_models import RewardModel
from malfl_algos.ma_lfl.stages import StageArrays

__all__ = ["Q_RULES", "ReplayedQ"]

FloatArray = NDArray[np.float64]
Q_RULES: dict[CarriedRule, int] = {
    "q-learning": Q_LEARNING,
    "sarsa": SARSA,
    "expected-sarsa": EXPECTED_SARSA,
}
"""Name of a rule -> its number in the compiled loop."""


@dataclass(frozen=True, eq=False)
class ReplayedQ:
    """A Q-learner whose transitions are all known, in order.

    At the k-th update of (s, a), q(s, a) += beta_k (r + gamma v(s') - q(s, a)), with q = 0 before
    the first, beta_k = step_size / k^step_size_decay, and v(s') is

    - `q-learning`: the greatest q(s', b), linearised at `reward`;
    - `sarsa`: q(s', b) of the action b that the agent played next, and the expectation where an
      episode ends;
    - `expected-sarsa`: the expectation under the policy.

    If the policy is frozen within a stage, the policy of the next stage follows from q at its end.
    If it moves, the stages are those of `cut_stages`, and a row has the derivative of T times the
    log of the policy averaged over the visits of a state in the stage.

    Args:
        model: the reward model.
        discount: gamma in [0, 1).
        temperature: T > 0 of the softmax choice; only a policy that moves needs it.
        step_size, step_size_decay: see above.
        rule: see above.
        moving: whether the policy moves within a stage.
        greedy: whether the choice is epsilon-greedy. The coefficients of a policy that moves are
            then those of q, averaged over the visits of a state in the stage.
        carried: whether q is carried over from stage to stage; otherwise every stage starts at 0.
        reward: the present estimate `(n_unknowns,)`; None: unknown.
    """

    model: RewardModel
    discount: float
    temperature: float
    step_size: float
    rule: CarriedRule
    step_size_decay: float = 0.0
    moving: bool = False
    greedy: bool = False
    carried: bool = True
    reward: FloatArray | None = None

    @property
    def name(self) -> str:
        """The learner's rule."""
        policy, choice = "moving" if self.moving else "frozen", "greedy" if self.greedy else "soft"
        return f"replay {self.rule}, policy {policy}, choice {choice}"

    def linearised(self, reward: FloatArray) -> ReplayedQ:
        """The same learner, linearised at another estimate of the reward."""
        return replace(self, reward=reward)

    def coefficients(
        self,
        stages: Sequence[StageArrays],
        joint_policies: Sequence[Sequence[FloatArray]],
        agent_index: int,
    ) -> FloatArray:
        """See `malfl_algos.ma_lfl.learner_models.LearnerModel`."""
        shape = stages[0].joint_counts.shape
        n_unknowns = unknowns_of(self.model, shape, agent_index)
        learner = _Learner.new(shape[0], shape[agent_index + 1], n_unknowns)
        weights = self._weights([own[agent_index] for own in joint_policies])
        found = []
        for number, (stage, policy) in enumerate(zip(stages, weights, strict=True)):
            if stage.steps is not None or number:
                self._follow(learner, stage, policy, agent_index)
            if not self.moving:
                found.append(learner.rows.astype(np.float64))
            elif number:
                found.append(self._averaged(learner))
        return np.stack(found)

    def _follow(
        self, learner: _Learner, stage: StageArrays, policy: FloatArray, agent_index: int
    ) -> None:
        steps = steps_of(stage)
        reward = np.zeros(learner.rows.shape[-1] - 1) if self.reward is None else self.reward
        if not self.carried:
            learner.forget()
        learner.average[...], learner.played[...] = 0, 0
        follow(
            steps.states,
            steps.joint_actions[:, agent_index],
            columns_of(self.model, steps, agent_index, stage.joint_counts.shape[1:]),
            steps.next_states,
            steps.episode_ends,
            (0, len(steps.states)) if stage.span is None else stage.span,
            policy,
            reward,
            (self.discount, self.temperature, self.step_size, self.step_size_decay),
            (Q_RULES[self.rule], self.reward is not None, self.moving, self.greedy),
            learner.rows,
            learner.q,
            learner.visits,
            learner.average,
            learner.played,
        )

    def _averaged(self, learner: _Learner) -> FloatArray:
        """Derivative of T log of the averaged policy; the constant makes it exact at `reward`."""
        found = learner.average.astype(np.float64)
        if self.reward is not None and not self.greedy:
            seen = learner.played > 0
            logs = self.temperature * np.log(np.where(seen, learner.played, 1.0))
            found[..., -1] = np.where(seen, logs - found[..., :-1] @ self.reward, 0.0)
        return found

    def variance(
        self,
        stages: Sequence[StageArrays],
        joint_policies: Sequence[Sequence[FloatArray]],
        agent_index: int,
        reward: FloatArray,
        q: FloatArray,
    ) -> FloatArray:
        """0: all draws of these learners are observed."""
        return np.zeros(q.shape)

    def _weights(self, policies: Sequence[FloatArray]) -> Sequence[FloatArray]:
        """Policies; for Q-learning, until a reward is known, the action that was preferred later.

        The policy that follows a stage prefers the action of greatest q.
        """
        if self.rule != "q-learning":
            return policies
        later = [*policies[1:], policies[-1]]
        best = [own == own.max(axis=1, keepdims=True) for own in later]
        return [own / own.sum(axis=1, keepdims=True) for own in best]


@dataclass(frozen=True, eq=False)
class _Learner:
    """The arrays that `malfl_algos.ma_lfl.q_replay_loops.follow` changes."""

    rows: NDArray[np.float32]
    q: FloatArray
    visits: NDArray[np.int64]
    average: NDArray[np.float32]
    played: FloatArray

    @classmethod
    def new(cls, n_states: int, n_actions: int, n_unknowns: int) -> _Learner:
        shape = (n_states, n_actions)
        rows = np.zeros((*shape, n_unknowns + 1), dtype=np.float32)
        visits = np.zeros(shape, dtype=np.int64)
        return cls(rows, np.zeros(shape), visits, np.zeros_like(rows), np.zeros(shape))

    def forget(self) -> None:
        self.rows[...], self.q[...], self.visits[...] = 0, 0, 0
