"""The learner's own updates, replayed with the reward unknown.

A td update is affine in the reward: for every (s, a) the replay keeps the row of coefficients that
turn reward values into the learner's present q(s, a), and passes each observed transition through
it. What the replay cannot know are the learner's own bootstrap draws, if it made any; it follows
their expectation, and their variance is followed by sending random signs of the right size through
the very same updates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.replay_loops import EXECUTED, EXPECTED, SOFT_Q, follow_noise, replay
from malfl_algos.ma_lfl.reward_models import RewardModel
from malfl_algos.ma_lfl.stages import StageArrays, Steps
from malfl_env.errors import InputError

__all__ = ["Bootstrap", "ReplayedTd"]

FloatArray = NDArray[np.float64]
Bootstrap = Literal["fresh", "executed", "expected", "soft_q"]

SIGN_SEED = 20230723


@dataclass(frozen=True, eq=False)
class ReplayedTd:
    """A td learner whose transitions are known, in order and complete.

    q(s, a) += beta_k (r + gamma v(s') - q(s, a)) at the k-th visit of (s, a) in a stage, q being 0
    at its start and beta_k = step_size / k^step_size_decay, where v(s') is

    - `fresh`: q(s', b) - alpha log pi(b | s') for a b drawn anew (the paper's learner);
    - `executed`: the same for the action that the agent then played;
    - `expected`: its expectation under pi (expected SARSA);
    - `soft_q`: alpha log sum_b exp(q(s', b) / alpha) (soft Q-learning), linearised at the reward
      that is handed in.
    """

    model: RewardModel
    discount: float
    temperature: float
    step_size: float
    bootstrap: Bootstrap = "fresh"
    step_size_decay: float = 0.0
    reward: FloatArray | None = None

    @property
    def name(self) -> str:
        """The learner's rule."""
        return f"replay {self.bootstrap}"

    def coefficients(
        self, stage: StageArrays, joint_policy: Sequence[FloatArray], agent_index: int
    ) -> FloatArray:
        own = joint_policy[agent_index]
        steps = _steps(stage)
        n_others = int(np.prod(stage.joint_counts.shape[1:])) // own.shape[1]
        per_state = {
            "state": 1,
            "own_action": own.shape[1],
            "joint": own.size // len(own) * n_others,
        }
        n_unknowns = len(own) * per_state[self.model]
        rule = {"executed": EXECUTED, "soft_q": SOFT_Q}.get(self.bootstrap, EXPECTED)
        if self.reward is None and rule == SOFT_Q:
            rule = EXPECTED
        reward = np.zeros(n_unknowns) if self.reward is None else self.reward
        rows = replay(
            steps.states,
            steps.joint_actions[:, agent_index],
            _columns(self.model, steps, agent_index, stage.joint_counts.shape[1:]),
            steps.next_states,
            steps.episode_ends,
            own.astype(np.float32),
            (self.temperature * np.log(np.maximum(own, 1e-300))).astype(np.float32),
            reward.astype(np.float32),
            np.array(
                [self.discount, self.temperature, self.step_size, self.step_size_decay], np.float32
            ),
            rule,
        )
        return np.asarray(rows, dtype=np.float64)

    def variance(
        self,
        stage: StageArrays,
        joint_policy: Sequence[FloatArray],
        agent_index: int,
        reward: FloatArray,
        q: FloatArray,
    ) -> FloatArray:
        """Variance of q that the unseen bootstrap draws leave; 0 for rules that draw none."""
        own = joint_policy[agent_index]
        if self.bootstrap != "fresh":
            return np.zeros(own.shape)
        steps = _steps(stage)
        columns = _columns(self.model, steps, agent_index, stage.joint_counts.shape[1:])
        noise = follow_noise(
            steps.states,
            steps.joint_actions[:, agent_index],
            columns,
            steps.next_states,
            own.astype(np.float32),
            (self.temperature * np.log(np.maximum(own, 1e-300))).astype(np.float32),
            reward.astype(np.float32),
            np.array(
                [self.discount, self.temperature, self.step_size, self.step_size_decay], np.float32
            ),
            np.uint64(SIGN_SEED),
        )
        return np.asarray((noise.astype(np.float64) ** 2).mean(axis=-1))


def _steps(stage: StageArrays) -> Steps:
    if stage.steps is None:
        raise InputError(
            "replay needs the ordered transitions of every stage, and the trace did not keep them: "
            "learn with keep_transitions"
        )
    return stage.steps


def _columns(
    model: RewardModel, steps: Steps, agent_index: int, n_actions: tuple[int, ...]
) -> NDArray[np.int32]:
    """Number of the reward unknown that each step pays, `(n_steps,)`."""
    column = steps.states.astype(np.int32)
    if model == "state":
        return column
    column = column * n_actions[agent_index] + steps.joint_actions[:, agent_index]
    if model == "joint":
        for index, n in enumerate(n_actions):
            if index != agent_index:
                column = column * n + steps.joint_actions[:, index]
    return np.asarray(column, dtype=np.int32)
