"""Play a stage of a tabular game with tabular Q-learners, which update at every step.

Compiled with numba. The random stream is that of `malfl_algos.play.tabular`: one 64-bit draw per
agent and step chooses the action, then one per factor whose dynamics are stochastic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from malfl_algos.play.tabular import (
    StageSample,
    choose,
    episode_starts,
    factor_tables,
    playable_factors,
    reward_tables,
)
from malfl_algos.work.compilation import compiled, splitmix64
from malfl_env.markov_game import MarkovGame

__all__ = ["ALGORITHMS", "QLearners", "QStage", "play_q_learning"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

ALGORITHMS = ("q_learning", "sarsa", "expected_sarsa")
"""Names of the update rules; the position is the number that the compiled loop takes."""
Q_LEARNING, SARSA = 0, 1


@dataclass(frozen=True, eq=False)
class QLearners:
    """The agents' tables, which a stage changes in place.

    Args:
        q: action values, `(n_agents, n_states, widest)`, widest = the largest number of actions.
        visits: number of updates of each entry of q so far, of the same shape.
    """

    q: FloatArray
    visits: IntArray


@dataclass(frozen=True)
class QStage:
    """Settings of a stage.

    Args:
        episodes: number of episodes; each begins where `episode_starts` says.
        episode_length: steps per episode.
        discount: gamma in [0, 1).
        algorithm: a name of `ALGORITHMS`.
        greedy: whether actions are epsilon-greedy; otherwise softmax.
        moving: whether the policy follows q within the stage.
        exploration: temperature or epsilon at the first step of the stage, and at the first step
            after it; a policy that does not move has the first one.
        step_size: beta in (0, 1].
        step_size_decay: w >= 0; the k-th update of (s, a) has step size beta / k^w.
        restart: value, or values in the shape of the learners' q, from which q starts anew in this
            stage, once the policy has been read off; None: q is carried over. A moving policy needs
            None.
        keep_steps: whether to return the steps.
        exploration_decay: rate b >= 0 of exploration exp(-b t) at step t of the stage, instead of a
            linear change to the second value of `exploration`.
    """

    episodes: int
    episode_length: int
    discount: float
    algorithm: Literal["q_learning", "sarsa", "expected_sarsa"]
    greedy: bool
    moving: bool
    exploration: tuple[float, float]
    step_size: float
    step_size_decay: float
    restart: float | FloatArray | None
    keep_steps: bool
    exploration_decay: float | None = None


def play_q_learning(
    game: MarkovGame, learners: QLearners, stage: QStage, *, seed: int
) -> tuple[StageSample, FloatArray]:
    """Play a stage and update every agent's q at every step (Sutton and Barto 2018, chapter 6).

    q^i(s, a) += beta_k (r + gamma v(s') - q^i(s, a)), where v(s') is max_b q^i(s', b) for
    `q_learning`, q^i(s', a') of the action a' played next for `sarsa`, and sum_b pi(b | s')
    q^i(s', b) under the policy played for `expected_sarsa`. An episode is cut, it does not end: its
    last step has a v(s') as well, for `sarsa` the expectation. A `sarsa` agent chooses a' before
    the update, the others choose their next action after it. Ties for the greatest q are broken
    evenly.

    Args:
        game: dynamics and rewards.
        learners: the agents' tables, changed in place.
        stage: settings.
        seed: seed of the random stream, 0 .. 2**64 - 1.

    Returns:
        Counts, action values and, if requested, the steps; and the policies that were played,
        `(n_agents, n_states, widest)`: the average over the visits of a state, for a state without
        visits the policy at the end. The same arguments give the same bytes.
    """
    n_joint = int(np.prod(game.n_actions))
    counts = np.zeros((game.n_states, n_joint), dtype=np.int64)
    n_steps = stage.episodes * stage.episode_length
    steps = np.empty((3, n_steps if stage.keep_steps else 0), dtype=np.int64)
    played = np.zeros(learners.q.shape)
    first, after = stage.exploration
    drift = after - first if stage.moving else 0.0
    decay = stage.exploration_decay if stage.moving else None
    frozen = np.zeros(learners.q.shape)
    _policies(learners.q, game.n_actions, stage.greedy, first, frozen)
    if stage.restart is not None:
        learners.q[...], learners.visits[...] = stage.restart, 0
    _play(
        np.uint64(seed),
        game.n_actions,
        episode_starts(game, stage.episodes, seed),
        reward_tables(game),
        *factor_tables(playable_factors(game), game.n_actions),
        (stage.episodes, stage.episode_length),
        (stage.discount, stage.step_size, stage.step_size_decay),
        (first, drift if decay is None else 0.0, decay or 0.0),
        (ALGORITHMS.index(stage.algorithm), stage.greedy, stage.moving),
        frozen,
        learners.q,
        learners.visits,
        played,
        counts,
        steps,
    )
    kept = None
    if stage.keep_steps:
        ends = np.arange(1, n_steps + 1) % stage.episode_length == 0
        kept = (steps[0], steps[1], steps[2], ends)
    sample = StageSample(
        counts.reshape(game.n_states, *game.n_actions),
        tuple(learners.q[index, :, :n].copy() for index, n in enumerate(game.n_actions)),
        kept,
    )
    return sample, played


@compiled(inline="always")
def _policy(
    q: Any, n_actions: Any, greedy: Any, exploration: Any, policy: Any
) -> None:  # pragma: no cover
    """Write the policy of action values q, `(widest,)`."""
    top = q[0]
    for b in range(1, n_actions):
        top = max(top, q[b])
    total = 0.0
    for b in range(n_actions):
        if greedy:
            policy[b] = 1.0 if q[b] == top else 0.0
        else:
            policy[b] = np.exp((q[b] - top) / exploration)
        total += policy[b]
    for b in range(n_actions):
        policy[b] /= total
        if greedy:
            policy[b] = (1.0 - exploration) * policy[b] + exploration / n_actions


@compiled(inline="always")
def _exploration(exploring: Any, step: Any, n_steps: Any) -> Any:  # pragma: no cover
    """Temperature or epsilon at a step of the stage."""
    first, drift, decay = exploring
    if decay > 0.0:
        return first * np.exp(-decay * step)
    return first + drift * step / n_steps


@compiled()
def _policies(
    q: Any, n_actions: Any, greedy: Any, exploration: Any, policies: Any
) -> None:  # pragma: no cover
    """Write the policies of all agents in all states."""
    for i in range(q.shape[0]):
        for s in range(q.shape[1]):
            _policy(q[i, s], n_actions[i], greedy, exploration, policies[i, s])


@compiled(inline="always")
def _drawn(policy: Any, n_actions: Any, bits: Any) -> Any:  # pragma: no cover
    """The action that 64 random bits choose."""
    rest = np.float64(bits >> np.uint64(11)) * 2.0**-53
    choice = 0
    for b in range(n_actions - 1):
        rest -= policy[b]
        if rest < 0.0:
            break
        choice = b + 1
    return choice


@compiled()
def _play(  # noqa: C901, PLR0917 - a compiled loop takes plain arrays
    state: Any,
    n_actions: Any,
    starts: Any,
    rewards: Any,
    n_local: Any,
    strides: Any,
    successors: Any,
    successor_limits: Any,
    lengths: Any,
    rates: Any,
    exploring: Any,
    kinds: Any,
    frozen: Any,
    q: Any,
    visits: Any,
    played: Any,
    counts: Any,
    steps: Any,
) -> None:  # pragma: no cover
    golden, half = np.uint64(0x9E3779B97F4A7C15), np.uint64(32)
    episodes, episode_length = lengths
    discount, step_size, decay = rates
    algorithm, greedy, moving = kinds
    n_agents, n_factors = len(n_actions), n_local.shape[0]
    stochastic = successor_limits.shape[3] > 0
    policy = np.zeros((n_agents, q.shape[2]))
    actions = np.zeros(n_agents, dtype=np.int64)
    coming = np.zeros(n_agents, dtype=np.int64)
    seen = np.zeros(q.shape[1])
    n_steps = episodes * episode_length
    step = 0
    for episode in range(episodes):
        s = starts[episode]
        for i in range(n_agents):
            if moving:
                now = _exploration(exploring, step, n_steps)
                _policy(q[i, s], n_actions[i], greedy, now, policy[i])
            else:
                policy[i] = frozen[i, s]
            state += golden
            actions[i] = _drawn(policy[i], n_actions[i], splitmix64(state))
        for position in range(episode_length):
            joint = 0
            seen[s] += 1.0
            for i in range(n_agents):
                joint = joint * n_actions[i] + actions[i]
                for b in range(n_actions[i]):
                    played[i, s, b] += policy[i, b]
            t, rest, scale = 0, s, 1
            for back in range(n_factors):
                f = n_factors - 1 - back
                local = rest % n_local[f]
                rest = rest // n_local[f]
                own = 0
                for i in range(n_agents):
                    own += strides[f, i] * actions[i]
                k = 0
                if stochastic:
                    state += golden
                    k = choose(successor_limits[f, local, own], splitmix64(state) >> half)
                t += scale * successors[f, local, own, k]
                scale *= n_local[f]
            now = _exploration(exploring, step + 1, n_steps)
            last = position == episode_length - 1
            for i in range(n_agents):
                a = actions[i]
                if moving:
                    _policy(q[i, t], n_actions[i], greedy, now, policy[i])
                else:
                    policy[i] = frozen[i, t]
                ahead = 0.0
                if algorithm == Q_LEARNING:
                    ahead = q[i, t, 0]
                    for b in range(1, n_actions[i]):
                        ahead = max(ahead, q[i, t, b])
                elif algorithm == SARSA and not last:
                    state += golden
                    coming[i] = _drawn(policy[i], n_actions[i], splitmix64(state))
                    ahead = q[i, t, coming[i]]
                else:
                    for b in range(n_actions[i]):
                        ahead += policy[i, b] * q[i, t, b]
                visits[i, s, a] += 1
                beta = step_size if decay == 0.0 else step_size / visits[i, s, a] ** decay
                r = rewards[i, s, joint if rewards.shape[2] > 1 else 0]
                q[i, s, a] += beta * (r + discount * ahead - q[i, s, a])
                if algorithm != SARSA and not last:
                    if moving and t == s:
                        _policy(q[i, t], n_actions[i], greedy, now, policy[i])
                    state += golden
                    coming[i] = _drawn(policy[i], n_actions[i], splitmix64(state))
            counts[s, joint] += 1
            if steps.shape[1] > 0:
                steps[0, step], steps[1, step], steps[2, step] = s, joint, t
            step += 1
            s = t
            actions[:] = coming
    for i in range(n_agents):
        for s in range(q.shape[1]):
            if moving:
                now = _exploration(exploring, n_steps, n_steps)
                _policy(q[i, s], n_actions[i], greedy, now, policy[i])
            else:
                policy[i] = frozen[i, s]
            for b in range(n_actions[i]):
                played[i, s, b] = policy[i, b] if seen[s] == 0.0 else played[i, s, b] / seen[s]
