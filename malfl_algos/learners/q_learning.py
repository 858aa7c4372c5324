"""Independent tabular Q-learners: Q-learning, SARSA and expected SARSA."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from malfl_algos.contract import API_VERSION, LearnedStage, StageTruth
from malfl_algos.play.q_learning import ALGORITHMS, QLearners, QStage, play_q_learning
from malfl_algos.play.tabular import observed_stage, table_of_visits
from malfl_env.arguments import Count, typed
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = ["QLearning"]


@dataclass(frozen=True)
class QLearning:
    """All agents learn at once, each with its own table q(s, a) and its own ordinary rewards.

    At the k-th update of (s, a), q(s, a) += beta_k (r + gamma v(s') - q(s, a)), with beta_k =
    step_size / k^step_size_decay (Sutton and Barto 2018, chapter 6). There is no entropy bonus.

    The true policies of a stage are those that were played. If the policy moves within a stage,
    they are averages over the visits of a state; a state without visits has the policy at the end.

    Args:
        discount: discount factor gamma in [0, 1).
        temperature: T > 0 of the softmax choice, pi(a | s) proportional to exp(q(s, a) / T), in the
            first stage. Unused by the epsilon-greedy choice.
        algorithm: value v(s') of the next state. `q_learning`: the greatest q(s', b); `sarsa`:
            q(s', a') of the action played next; `expected_sarsa`: the expectation under the policy.
        choice: `softmax`; or `epsilon_greedy`: the action of greatest q, and with probability
            epsilon one drawn evenly from all actions.
        policy: `frozen`: the policy follows from q at the start of the stage and stays; `moving`:
            it follows q at every step.
        carry_over: whether q is carried over from stage to stage; otherwise every stage starts from
            initial_q, which needs a frozen policy.
        initial_q: q before the first update: a number; or `uniform_others`: the discounted reward
            of an action if it is played for ever in a state and the other agents draw theirs
            evenly, mean_b r(s, a, b) / (1 - gamma), as in Calvano et al. (2020), section II.
        step_size: step size beta in (0, 1].
        step_size_decay: power w in [0, 1] of the number of updates of (s, a), counted over all
            stages, or within the stage if q is not carried over.
        epsilon_start: epsilon in the first stage, in [0, 1].
        epsilon_end: epsilon in the last stage, in [0, 1]; it changes linearly in between. If the
            policy moves, these are the values at the first step and after the last step.
        epsilon_decay: rate b >= 0 of epsilon = epsilon_start exp(-b t) at step t, counted over all
            stages; then epsilon_end is not used, and a frozen policy has the value at the start of
            the stage. None: the linear change.
        temperature_end: temperature in the last stage, likewise; None: constant.
        episodes: episodes per stage.
        episode_length: steps per episode; no episode ends earlier.
        keep_transitions: whether the trace keeps the ordered steps.

    Raises:
        InputError: for an option out of its range; the message names it.
    """

    discount: float
    temperature: float
    algorithm: Literal["q_learning", "sarsa", "expected_sarsa"] = "q_learning"
    choice: Literal["softmax", "epsilon_greedy"] = "softmax"
    policy: Literal["frozen", "moving"] = "frozen"
    carry_over: bool = True
    initial_q: float | Literal["uniform_others"] = 0.0
    step_size: float = 0.1
    step_size_decay: float = 0.0
    epsilon_start: float = 1.0
    epsilon_end: float = 0.1
    epsilon_decay: float | None = None
    temperature_end: float | None = None
    episodes: int = 3000
    episode_length: int = 1000
    keep_transitions: bool = False

    api_version: ClassVar[tuple[int, int]] = API_VERSION

    def __post_init__(self) -> None:
        self._check_words()
        self._check_start()
        if not 0 <= self.discount < 1:
            raise InputError(f"discount must be in [0, 1), got {self.discount}")
        for name in ("temperature", "temperature_end"):
            value = getattr(self, name)
            if value is not None and not 0 < value < np.inf:
                raise InputError(f"{name} must be > 0 and finite, got {value}")
        if not 0 < self.step_size <= 1:
            raise InputError(f"step_size must be in (0, 1], got {self.step_size}")
        for name in ("step_size_decay", "epsilon_start", "epsilon_end"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        for name in ("episodes", "episode_length"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be >= 1, got {getattr(self, name)}")

    def _check_start(self) -> None:
        if self.initial_q != "uniform_others" and not _is_finite(self.initial_q):
            raise InputError(
                f"initial_q must be a finite number or uniform_others, got {self.initial_q}"
            )
        if self.epsilon_decay is not None and not 0 <= self.epsilon_decay < np.inf:
            raise InputError(f"epsilon_decay must be >= 0 and finite, got {self.epsilon_decay}")

    def _check_words(self) -> None:
        for name, words in (
            ("algorithm", ALGORITHMS),
            ("choice", ("softmax", "epsilon_greedy")),
            ("policy", ("frozen", "moving")),
        ):
            if getattr(self, name) not in words:
                allowed = f"{', '.join(words[:-1])} or {words[-1]}"
                raise InputError(f"{name} must be {allowed}, got {getattr(self, name)!r}")
        if self.policy == "moving" and not self.carry_over:
            raise InputError(
                "carry_over must be True for policy 'moving', got False: a policy that follows q "
                "would be uniform again at the start of every stage"
            )

    @typed
    def learn(
        self, env: ParallelEnv[str, Any, Any], *, n_stages: Count, rng: np.random.Generator
    ) -> Iterator[LearnedStage]:
        """Yield stages; see `malfl_algos.contract.Learner`.

        Args:
            env: a grid world, or any environment that `malfl_env.markov_game` knows.
            n_stages: number of stages, >= 1.
            rng: one 64-bit seed is drawn from it per stage.

        Raises:
            InputError: at once, see `malfl_algos.play.tabular.table_of_visits`.
        """
        return self._stages(table_of_visits(env), n_stages, rng)

    def _stages(
        self, game: MarkovGame, n_stages: Count, rng: np.random.Generator
    ) -> Iterator[LearnedStage]:
        shape = (game.n_agents, game.n_states, max(game.n_actions))
        first_q = self._first_q(game, shape)
        learners = QLearners(first_q.copy(), np.zeros(shape, dtype=np.int64))
        for number in range(n_stages):
            sample, played = play_q_learning(
                game,
                learners,
                QStage(
                    self.episodes,
                    self.episode_length,
                    self.discount,
                    self.algorithm,
                    self.choice == "epsilon_greedy",
                    self.policy == "moving",
                    self._exploration(number, n_stages),
                    self.step_size,
                    self.step_size_decay,
                    None if self.carry_over else first_q,
                    keep_steps=self.keep_transitions or not game.deterministic,
                    exploration_decay=self.epsilon_decay if self.choice != "softmax" else None,
                ),
                seed=int(rng.integers(2**64, dtype=np.uint64)),
            )
            yield LearnedStage(
                observed_stage(game, sample, keep_transitions=self.keep_transitions, complete=True),
                StageTruth(
                    {
                        agent: played[index, :, : game.n_actions[index]].copy()
                        for index, agent in enumerate(game.agents)
                    }
                ),
            )

    def _first_q(self, game: MarkovGame, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Action values before the first update, `(n_agents, n_states, widest)`."""
        if self.initial_q != "uniform_others":
            return np.full(shape, float(self.initial_q))
        q = np.zeros(shape)
        for index, n_own in enumerate(game.n_actions):
            table = game.reward(index)
            table = table.reshape(*table.shape, *[1] * (game.n_agents + 1 - table.ndim))
            table = np.broadcast_to(table, (game.n_states, *game.n_actions))
            own = np.moveaxis(table, index + 1, 1).reshape(game.n_states, n_own, -1)
            q[index, :, :n_own] = own.mean(axis=-1) / (1 - self.discount)
        return q

    def _exploration(self, number: int, n_stages: Count) -> tuple[float, float]:
        """Temperature or epsilon at the start and at the end of a stage."""
        if self.choice == "epsilon_greedy" and self.epsilon_decay is not None:
            n_steps = number * self.episodes * self.episode_length
            first = self.epsilon_start * float(np.exp(-self.epsilon_decay * n_steps))
            return first, first
        if self.choice == "epsilon_greedy":
            first, last = self.epsilon_start, self.epsilon_end
        else:
            first = self.temperature
            last = first if self.temperature_end is None else self.temperature_end
        span = n_stages if self.policy == "moving" else max(n_stages - 1, 1)
        start, end = number / span, (number + 1) / span
        return first + (last - first) * start, first + (last - first) * end


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))
