"""The learner's own updates, replayed with an unknown reward.

A td update is affine in the reward. For every (s, a) the replay keeps a row of coefficients, which
map reward values to the learner's current q(s, a), and updates it with each observed transition.
The bootstrap draws of the learner are not observed. The replay uses their expectation. It estimates
their variance by passing random signs of the right size through the same updates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.learner_models import StageModel
from malfl_algos.ma_lfl.replay_loops import EXECUTED, EXPECTED, SOFT_Q, follow_noise, replay
from malfl_algos.ma_lfl.reward_models import RewardModel
from malfl_algos.ma_lfl.stages import StageArrays, Steps
from malfl_env.errors import InputError

__all__ = ["Bootstrap", "ReplayedTd", "columns_of", "steps_of", "unknowns_of"]

FloatArray = NDArray[np.float64]
Bootstrap = Literal["fresh", "executed", "expected", "soft_q"]

SIGN_SEED = 20230723


@dataclass(frozen=True, eq=False)
class ReplayedTd(StageModel):
    """A td learner whose transitions are all known, in order.

    At the k-th visit of (s, a) in a stage, q(s, a) += beta_k (r + gamma v(s') - q(s, a)). Here
    q = 0 at the start of the stage, beta_k = step_size / k^step_size_decay, and v(s') is

    - `fresh`: q(s', b) - alpha log pi(b | s') for a newly drawn action b (the paper's learner);
    - `executed`: the same for the action b that the agent played next;
    - `expected`: the expectation of the same under pi (expected SARSA);
    - `soft_q`: alpha log sum_b exp(q(s', b) / alpha) (soft Q-learning), linearised at `reward`.
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

    def stage_coefficients(
        self, stage: StageArrays, joint_policy: Sequence[FloatArray], agent_index: int
    ) -> FloatArray:
        own = joint_policy[agent_index]
        steps = steps_of(stage)
        n_unknowns = unknowns_of(self.model, stage.joint_counts.shape, agent_index)
        rule = {"executed": EXECUTED, "soft_q": SOFT_Q}.get(self.bootstrap, EXPECTED)
        if self.reward is None and rule == SOFT_Q:
            rule = EXPECTED
        reward = np.zeros(n_unknowns) if self.reward is None else self.reward
        rows = replay(
            steps.states,
            steps.joint_actions[:, agent_index],
            columns_of(self.model, steps, agent_index, stage.joint_counts.shape[1:]),
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

    def stage_variance(
        self,
        stage: StageArrays,
        joint_policy: Sequence[FloatArray],
        agent_index: int,
        reward: FloatArray,
        q: FloatArray,
    ) -> FloatArray:
        """Variance of q due to unobserved bootstrap draws; 0 for rules without draws."""
        own = joint_policy[agent_index]
        if self.bootstrap != "fresh":
            return np.zeros(own.shape)
        steps = steps_of(stage)
        columns = columns_of(self.model, steps, agent_index, stage.joint_counts.shape[1:])
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


def steps_of(stage: StageArrays) -> Steps:
    """The ordered steps of a stage.

    Raises:
        InputError: for a stage without steps.
    """
    if stage.steps is None:
        raise InputError(
            "replay needs the ordered transitions of every stage, and this trace holds none: learn "
            "with keep_transitions"
        )
    return stage.steps


def columns_of(
    model: RewardModel, steps: Steps, agent_index: int, n_actions: tuple[int, ...]
) -> NDArray[np.int32]:
    """Index of the reward unknown that the agent receives in each step, `(n_steps,)`."""
    if model == "next_state":
        return np.asarray(steps.next_states, dtype=np.int32)
    column = steps.states.astype(np.int32)
    if model == "state":
        return column
    column = column * n_actions[agent_index] + steps.joint_actions[:, agent_index]
    if model == "joint":
        for index, n in enumerate(n_actions):
            if index != agent_index:
                column = column * n + steps.joint_actions[:, index]
    return np.asarray(column, dtype=np.int32)


def unknowns_of(model: RewardModel, shape: tuple[int, ...], agent_index: int) -> int:
    """Number of reward unknowns of an agent; `shape` is that of the joint counts."""
    per_state = {"own_action": shape[agent_index + 1], "joint": prod(shape[1:])}
    return shape[0] * per_state.get(model, 1)
