"""Q-learners of which only the counts are known: expected updates, carried over between stages.

A Q-learner keeps its action values q from stage to stage and updates q(s, a) at every visit. With
counts alone the order of the updates is unknown. Each update is therefore replaced by its
expectation, and the visits of a stage are spread evenly over the stage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from malfl_algos.ma_lfl.carried_rules import CARRIED_RULES, CarriedRule
from malfl_algos.ma_lfl.expected_loops import advance
from malfl_algos.ma_lfl.learner_models import (
    immediate_table,
    parts_of_stage,
    played_frequencies,
)
from malfl_algos.ma_lfl.reward_models import RewardModel
from malfl_algos.ma_lfl.stage_memory import digest, kept
from malfl_algos.ma_lfl.stages import StageArrays
from malfl_env.markov_game import MarkovGame

__all__ = ["ExpectedQ", "log_kept"]

FloatArray = NDArray[np.float64]

EXACT_VISITS = 20_000
"""Up to this visit the step sizes are summed one by one, beyond it by an integral."""
FORGOTTEN = -700.0
"""Least logarithm of a kept share."""
DRAWS = 32
"""Number of fixed pairs of normal draws that the mean of a noisy maximum is taken over."""
DRAW_SEED = 20230723


class _Part(NamedTuple):
    """A learner at the end of a stage.

    Args:
        q: coefficients of q, `(n_states, n_actions, width)`.
        log_average: coefficients of alpha times the log of the policy averaged over the stage, up
            to a constant per state, linearised; zeros or empty where it was not wanted.
        variance: variance of the learner's noise about q, `(n_states, n_actions)`.
    """

    q: FloatArray
    log_average: FloatArray
    variance: FloatArray


@dataclass(frozen=True, eq=False)
class ExpectedQ:
    """A learner that carries q over from stage to stage; q = 0 before the first stage.

    At the k-th visit of (s, a), counted over all stages, q(s, a) += beta_k (r + gamma v(s') - q(s,
    a)) with beta_k = step_size / k^step_size_decay. Here v(s') is

    - `q-learning`: max_b q(s', b) (Watkins and Dayan 1992);
    - `sarsa`: q(s', b) of the action b that is played next; `expected-sarsa`: its mean under the
      policy (Sutton and Barto 2018, sections 6.4 and 6.6). Only their noise differs here.

    The reward is the ordinary one, without an entropy bonus. The maximum is linearised at `reward`;
    as long as that is None, q-learning is treated as expected SARSA. The maximum is taken over
    action values with their noise, since it is larger than the maximum of their means. If a
    greedy policy moves, the stage itself shows which action is the greatest, and how often.

    Args:
        game: the game.
        model: the reward model, which numbers the unknowns.
        discount: gamma in [0, 1).
        temperature: alpha of a softmax policy.
        step_size: in (0, 1].
        rule: the rule above.
        step_size_decay: in [0, 1].
        moving: whether the policy follows q at every step. The model then describes the policy of
            each stage but the first, averaged over the stage; otherwise q at the stages' ends.
        greedy: whether the policy is epsilon-greedy. The model is then of q at the ends of stages
            alone, and its noise is part of the choice (`malfl_algos.ma_lfl.greedy`).
        reward: estimate of the reward unknowns.
    """

    game: MarkovGame
    model: RewardModel
    discount: float
    temperature: float
    step_size: float
    rule: CarriedRule = "q-learning"
    step_size_decay: float = 0.0
    moving: bool = False
    greedy: bool = False
    reward: FloatArray | None = None

    @property
    def name(self) -> str:
        """The learner's rule."""
        return f"{self.rule}, {'moving' if self.moving else 'frozen'} policy"

    def linearised(self, reward: FloatArray) -> ExpectedQ:
        """The same learner, linearised at another estimate of the reward."""
        return replace(self, reward=reward)

    def coefficients(
        self,
        stages: Sequence[StageArrays],
        joint_policies: Sequence[Sequence[FloatArray]],
        agent_index: int,
    ) -> FloatArray:
        """See `malfl_algos.ma_lfl.learner_models.LearnerModel`; without the first stage if the
        policy moves.
        """
        ends = list(self._ends(stages, joint_policies, agent_index, self.reward))
        if not self.moving:
            return np.stack([end.q for end in ends])
        averaged = self.reward is not None and not self.greedy
        return np.stack([end.log_average if averaged else end.q for end in ends[1:]])

    def variance(
        self,
        stages: Sequence[StageArrays],
        joint_policies: Sequence[Sequence[FloatArray]],
        agent_index: int,
        reward: FloatArray,
        q: FloatArray,
    ) -> FloatArray:
        """Variance of a sampled target, times beta / (2 - beta) for averaging over visits.

        If the policy moves, it is divided by the number of times that the noise is drawn anew in a
        stage, since an average over the stage is seen. For epsilon-greedy policies it is not
        divided, since how often an action is greedy shows the noise.
        """
        known = [end.variance for end in self._ends(stages, joint_policies, agent_index, reward, 1)]
        if not self.moving:
            return np.stack(known)
        if self.greedy:
            return np.stack(known)[1:]
        counts = np.stack([stage.action_counts(agent_index) for stage in stages])
        return np.asarray((np.stack(known) / (1 + self.step_size * counts / 2))[1:])

    def _ends(
        self,
        stages: Sequence[StageArrays],
        joint_policies: Sequence[Sequence[FloatArray]],
        agent_index: int,
        reward: FloatArray | None,
        width: int | None = None,
    ) -> Iterator[_Part]:
        """The learner at the end of each stage; with width 1, for this reward alone.

        Without a reward all rules have the same action values, which are remembered.
        """
        visits = np.zeros(joint_policies[0][agent_index].shape)
        shown = self.greedy and self.moving and width is None and self.rule == "q-learning"
        q = None
        own = self.model, self.discount, self.step_size, self.step_size_decay, agent_index
        history: tuple[Any, ...] = "carried", self.game.factors, own
        for stage, policies in zip(stages, joint_policies, strict=True):
            advanced = partial(
                self._advanced, q, visits, stage, policies, agent_index, reward, width, shown=shown
            )
            if reward is None and width is None and not shown:
                history = (*history, digest([stage.joint_counts, *policies]))
                q = kept(stage, history, partial(_q_of, advanced), np.size)
                yield _Part(q, np.zeros(0), np.zeros(q.shape[:2]))
            else:
                part = advanced()
                q = part.q
                yield part
            visits = visits + stage.action_counts(agent_index)

    def _advanced(
        self,
        q: FloatArray | None,
        visits: FloatArray,
        stage: StageArrays,
        policies: Sequence[FloatArray],
        agent_index: int,
        reward: FloatArray | None,
        width: int | None,
        *,
        shown: bool,
    ) -> _Part:
        """The learner at the end of a stage.

        Args:
            q: at its beginning; None: 0.
            visits: before it, of every state and action.
            stage, policies, agent_index, reward, width: as `_ends` takes them.
            shown: whether the policies show how often each action is the greedy one.
        """
        own, parts = policies[agent_index], parts_of_stage()
        transition, immediate = self._stage(stage, own, agent_index)
        estimate = np.zeros(0) if reward is None else np.append(reward, 1.0)
        if width is not None:
            immediate, estimate = (immediate @ estimate)[..., None], np.ones(1)
        q = np.zeros(immediate.shape) if q is None else q
        counts = stage.action_counts(agent_index)
        times = np.append(0.0, np.cumsum(parts))[:, None, None]
        logs = log_kept(visits + counts * times, self.step_size, self.step_size_decay)
        rate = self.step_size / np.maximum(visits + counts, 1) ** self.step_size_decay
        q, log_average, variance = advance(
            q,
            (transition.indptr, transition.indices, transition.data),
            -np.expm1(np.diff(logs, axis=0)),
            _greedy_share(own) if shown else own,
            immediate,
            np.zeros(0) if shown else estimate,
            parts,
            _draws(own.shape[1]),
            rate / (2 - rate),
            (self.discount, self.temperature),
            (
                CARRIED_RULES.index(self.rule),
                self.moving and not self.greedy and width is None and reward is not None,
            ),
        )
        return _Part(q, log_average, variance)

    def _stage(
        self, stage: StageArrays, own: FloatArray, agent_index: int
    ) -> tuple[sp.csr_array, FloatArray]:
        weights, transition = played_frequencies(self.game, stage, agent_index)
        return transition, immediate_table(self.model, weights, transition, own)


def _q_of(advanced: Callable[[], _Part]) -> FloatArray:
    return advanced().q


def log_kept(visits: FloatArray, step_size: float, decay: float) -> FloatArray:
    """Log of the share of its first value that an average keeps after n updates.

    This is the sum of log(1 - step_size / k^decay) over k = 1..n, for real n between whole numbers
    interpolated.

    Args:
        visits: n >= 0.
        step_size: in (0, 1].
        decay: in [0, 1].

    Returns:
        <= 0, as `visits`; at least `FORGOTTEN` where a step size is 1.
    """
    if decay == 0 and step_size < 1:
        return np.asarray(visits * np.log1p(-step_size))
    numbers = np.arange(1, EXACT_VISITS + 1)
    with np.errstate(divide="ignore"):
        each = np.maximum(np.log1p(-step_size * numbers**-decay), FORGOTTEN)
    table = np.append(0.0, np.cumsum(each))
    near = np.interp(visits, np.arange(EXACT_VISITS + 1), table)
    far = np.maximum(visits, EXACT_VISITS) / EXACT_VISITS
    power = 1 - decay
    grown = np.log(far) if power == 0 else (far**power - 1) / power
    return np.asarray(near - step_size * EXACT_VISITS**power * grown)


def _greedy_share(policy: FloatArray) -> FloatArray:
    """How often each action is the greedy one, from an epsilon-greedy policy; see `exploration`."""
    share = policy - policy.min(axis=1, keepdims=True) + 1e-9
    return np.asarray(share / share.sum(axis=1, keepdims=True))


@cache
def _draws(n_actions: int) -> FloatArray:
    """Fixed antithetic standard normal draws, `(n_actions, 2 DRAWS)`; they may not be modified."""
    half = np.random.default_rng(DRAW_SEED).standard_normal((DRAWS, n_actions))
    return np.ascontiguousarray(np.concatenate([half, -half]).T)
