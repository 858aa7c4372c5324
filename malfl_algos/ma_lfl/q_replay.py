"""Q-learners whose transitions are all known, in order, replayed with an unknown reward.

Q-learning, SARSA and expected SARSA with ordinary rewards (Sutton and Barto 2018, chapter 6) have
no unobserved draws. So their action values follow from the reward without noise. SARSA's are affine
in it. Those of Q-learning are piecewise affine: affine once it is known which action was the
greatest at each update. They are linearised at the present estimate of the reward.

A constant added to the first action values of all states and actions shifts the reward by a
constant, which is not claimed. So it need not be known. First action values that are themselves
affine in the reward are no difficulty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.carried_rules import CarriedRule
from malfl_algos.ma_lfl.learner_models import expected_reward
from malfl_algos.ma_lfl.q_replay_loops import (
    EXPECTED_SARSA,
    GIVEN,
    Q_LEARNING,
    SARSA,
    follow,
    follow_choices,
)
from malfl_algos.ma_lfl.replay import columns_of, steps_of, unknowns_of
from malfl_algos.ma_lfl.reward_models import RewardModel
from malfl_algos.ma_lfl.stages import StageArrays, Steps
from malfl_env.markov_game import MarkovGame

__all__ = ["Q_RULES", "ReplayedQ", "Start"]

FloatArray = NDArray[np.float64]
Q_RULES: dict[CarriedRule, int] = {
    "q-learning": Q_LEARNING,
    "sarsa": SARSA,
    "expected-sarsa": EXPECTED_SARSA,
}
"""Name of a rule -> its number in the compiled loop."""


class Start(NamedTuple):
    """A learner before its first observed update.

    Args:
        q: action values, `(n_states, n_actions)`.
        visits: number of updates of each so far, of the same shape.
    """

    q: FloatArray
    visits: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ReplayedQ:
    """A Q-learner whose transitions are all known, in order.

    At the k-th update of (s, a), q(s, a) += beta_k (r + gamma v(s') - q(s, a)), with beta_k =
    step_size / k^step_size_decay, and v(s') is

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
        uniform_others: the dynamics, if q before the first update is the discounted reward of an
            action that is played for ever in a state while the others draw theirs evenly,
            mean_b r(s, a, b) / (1 - gamma); None: it is 0.
        start: the learner before the first update, if it is known; else `uniform_others` tells.
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
    uniform_others: MarkovGame | None = None
    start: Start | None = None

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
        first = self._first_rows(stages[0].joint_counts.shape, agent_index)
        learner = self._new(first)
        weights = self._weights([own[agent_index] for own in joint_policies])
        found = []
        for number, (stage, policy) in enumerate(zip(stages, weights, strict=True)):
            if stage.steps is not None or number:
                self._follow(learner, stage, policy, agent_index, first)
            if not self.moving:
                found.append(learner.rows.astype(np.float64))
            elif number:
                found.append(self._averaged(learner))
        return np.stack(found)

    def _follow(
        self,
        learner: _Learner,
        stage: StageArrays,
        policy: FloatArray,
        agent_index: int,
        first: NDArray[np.float32],
    ) -> None:
        steps = steps_of(stage)
        reward = np.zeros(learner.rows.shape[-1] - 1) if self.reward is None else self.reward
        if not self.carried:
            learner.forget(first, self.reward)
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
            (self.discount, self.temperature, self.step_size, self.step_size_decay, GIVEN),
            (Q_RULES[self.rule], self.reward is not None, self.moving, self.greedy),
            learner.rows,
            learner.q,
            learner.visits,
            learner.average,
            learner.played,
        )

    def _first_rows(self, shape: tuple[int, ...], agent_index: int) -> NDArray[np.float32]:
        """Coefficients of q before the first update; `shape` is that of the joint counts."""
        own = (shape[0], shape[agent_index + 1])
        n_unknowns = unknowns_of(self.model, shape, agent_index)
        rows = np.zeros((*own, n_unknowns + 1), dtype=np.float32)
        if self.start is not None:
            rows[..., -1] = self.start.q
        elif self.uniform_others is not None:
            evenly = [np.full((shape[0], n), 1 / n) for n in shape[1:]]
            reward = expected_reward(self.uniform_others, self.model, evenly, agent_index)
            rows[..., :-1] = (reward / (1 - self.discount)).toarray().reshape(*own, n_unknowns)
        return rows

    def _new(self, rows: NDArray[np.float32]) -> _Learner:
        learner = _Learner.new(rows, self.reward)
        if self.start is not None:
            learner.visits[...] = self.start.visits
        return learner

    def after(self, steps: Steps, shape: tuple[int, ...], agent_index: int) -> Start:
        """The learner before the last step, at `reward`; its policy moves and is greedy.

        Args:
            steps, shape, agent_index: as `choices` takes them; the expectation of expected SARSA
                is that of the greatest action.
        """
        assert self.reward is not None
        learner = self._new(self._first_rows(shape, agent_index))
        columns = columns_of(self.model, steps, agent_index, shape[1:])
        own = np.ascontiguousarray(steps.joint_actions[:, agent_index])
        last = len(steps.states) - 1
        self._replayed(learner, steps, own, columns, np.array([last]), 0, 0.0)
        return Start(learner.q, learner.visits)

    def choices(
        self,
        steps: Steps,
        chosen: Sequence[NDArray[np.int64]],
        epsilon: FloatArray,
        shape: tuple[int, ...],
        agent_index: int,
    ) -> Iterator[NDArray[np.float32]]:
        """Coefficients of q in the state of each chosen step, before its update.

        Until a reward is known, the action played next stands for the greatest one.

        Args:
            steps: of all stages, joined.
            chosen: numbers of steps, increasing, in blocks.
            epsilon: of every block, for the expectation under a greedy policy, `(n_blocks,)`.
            shape: of the joint counts.
            agent_index: the agent.

        Yields:
            `(m, n_actions, n_unknowns + 1)` for every block.
        """
        learner = self._new(self._first_rows(shape, agent_index))
        columns = columns_of(self.model, steps, agent_index, shape[1:])
        own = np.ascontiguousarray(steps.joint_actions[:, agent_index])
        start = 0
        for block, rate in zip(chosen, epsilon, strict=True):
            yield self._replayed(learner, steps, own, columns, block, start, rate)
            start = int(block[-1])

    def _replayed(
        self,
        learner: _Learner,
        steps: Steps,
        own: NDArray[Any],
        columns: NDArray[np.int32],
        block: NDArray[np.int64],
        start: int,
        epsilon: float,
    ) -> NDArray[np.float32]:
        """Follow the steps from `start` on; the coefficients at those of `block`."""
        known = self.reward is not None
        reward = np.zeros(learner.rows.shape[-1] - 1) if self.reward is None else self.reward
        found = np.empty((len(block), *learner.rows.shape[1:]), dtype=np.float32)
        follow_choices(
            block,
            steps.states,
            own,
            columns,
            steps.next_states,
            steps.episode_ends,
            start,
            np.full(learner.q.shape, 1 / learner.q.shape[1]),
            reward,
            (self.discount, self.temperature, self.step_size, self.step_size_decay, epsilon),
            (Q_RULES[self.rule] if known else SARSA, known, False, True),
            learner.rows,
            learner.q,
            learner.visits,
            found,
        )
        return found

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
    def new(cls, rows: NDArray[np.float32], reward: FloatArray | None) -> _Learner:
        """The learner before its first update, from the coefficients of its q."""
        shape = rows.shape[:2]
        visits = np.zeros(shape, dtype=np.int64)
        made = cls(rows.copy(), np.zeros(shape), visits, np.zeros_like(rows), np.zeros(shape))
        made.forget(rows, reward)
        return made

    def forget(self, rows: NDArray[np.float32], reward: FloatArray | None) -> None:
        """Begin again."""
        self.rows[...], self.visits[...] = rows, 0
        self.q[...] = 0 if reward is None else rows[..., :-1] @ reward + rows[..., -1]
