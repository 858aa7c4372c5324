"""Derivatives of a learning history by the weights of all agents' rewards.

Stage by stage, the derivatives of the policies give those of the soft values, and these the
derivatives of the next policies. They are as many numbers as states, actions and weights together,
so they are held in single precision and replaced in place, a few states at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from malfl_algos.ma_lfl.history import Followed, HistoryData, Played, transitions_of
from malfl_algos.ma_lfl.history_td import td_slopes
from malfl_algos.soft.sweeps import expected_rows, swept_sum
from malfl_env.markov_game import MarkovGame

__all__ = ["sensitivities"]

FloatArray = NDArray[np.float64]
Single = NDArray[np.float32]
IntArray = NDArray[np.int64]
Moved = list[Single | None]

SLOPE_ERROR = 1e-2
"""Relative error of the derivatives of soft values."""
BLOCK = 2**21
"""Number of derivatives of a policy that are computed at a time."""


@dataclass(frozen=True, eq=False)
class _Stage:
    """A stage, and the derivatives of what precedes its predictions.

    Args:
        data, played: what is given, and the stage.
        features: per agent, `(n_states, n_weights)`.
        columns: per agent the weights of its reward among all weights.
        moved: per agent the derivative of its log policy, `(n_states, n_actions, all weights)`;
            None: it is known.
        between: by pair of agents, derivative of the first one's q by the other's log policy,
            `(n_states, n_actions of the first, n_actions of the other)`.
        transitions: per agent P with the others averaged out.
        slopes: per agent the derivative of its values, `(n_states, weights)`; only of the weights
            of its own reward where nothing was moved.
        td: per agent the derivative of the action values of td learners by the weights of its own
            reward, `(n_states, n_actions, n_weights)`; they take the place of `between`,
            `transitions` and `slopes`.
    """

    data: HistoryData
    played: Played
    features: Sequence[Single]
    columns: Sequence[slice]
    moved: Moved
    between: dict[tuple[int, int], Single]
    transitions: Sequence[sp.csr_array]
    slopes: Sequence[Single]
    td: Sequence[Single] = ()

    @property
    def fixed(self) -> bool:
        """Whether no policy of the stage depends on the rewards."""
        return all(own is None for own in self.moved)


def sensitivities(
    data: HistoryData,
    followed: Followed,
    features: Sequence[FloatArray],
    noise_variance: float,
    *,
    first: list[Single] | None = None,
) -> Single:
    """Derivatives of all predictions by the weights of all agents' rewards.

    Rewards are `features @ weights`. The rows run over stages, agents and visited states, in the
    order of `followed.stages`, of their `predicted` and of their `states`; games whose agents have
    different numbers of actions have columns of zeros.

    Args:
        data, followed, noise_variance: of `follow`.
        features: per agent, `(n_states, n_weights)`.
        first: per agent what calls with the same data and features share of the first stage, whose
            policies are fixed: derivatives of the values, or of the action values of td learners.
            An empty list is filled.

    Returns:
        `(n_rows, largest n_actions, all weights)`; weights are in the order of agents.
    """
    ends = np.cumsum([0, *(own.shape[1] for own in features)])
    columns = [slice(begin, end) for begin, end in pairwise(ends)]
    single = {id(own): np.asarray(own, dtype=np.float32) for own in features}
    direct = [single[id(own)] for own in features]
    moved: Moved = [None] * len(features)
    n_actions = data.game.n_actions
    rows = np.zeros(
        (
            len(n_actions) * sum(len(own.states) for own in followed.stages),
            max(n_actions),
            ends[-1],
        ),
        np.float32,
    )
    place = 0
    for number, played in enumerate(followed.stages):
        memory = first if first is not None and number == 0 else []
        if data.td is None:
            stage = _stage(data, played, direct, columns, moved, memory)
        else:
            stage = _td_stage(data, followed, number, direct, columns, moved, memory)
        for index in range(len(features)):
            size = len(played.states)
            rows[place : place + size, : n_actions[index]] = _changed(stage, index, played.states)
            place += size
        if number + 1 < len(followed.stages):
            moved = _next_moved(stage, int(ends[-1]), noise_variance)
    return rows


def _stage(
    data: HistoryData,
    played: Played,
    features: Sequence[Single],
    columns: Sequence[slice],
    moved: Moved,
    first: list[Single],
) -> _Stage:
    game, agents = data.game, range(len(features))
    policies = [np.exp(own) for own in played.log_policies]
    transitions, onward = transitions_of(game, policies)
    between = {
        (index, other): _by_pair(game, played.values[index], policies, index, other)
        * np.float32(data.discount)
        * policies[other][:, None].astype(np.float32)
        for index in agents
        for other in agents
        if other != index and moved[other] is not None
    }
    stage = _Stage(data, played, features, columns, moved, between, transitions, [])
    if stage.fixed:
        slopes = first or _fixed_slopes(data, onward, features)
        first[:] = slopes
    else:
        gains = _gains(stage)
        found = swept_sum(onward, gains, discount=data.discount, error=SLOPE_ERROR)
        slopes = list(np.split(found, len(features), axis=1))
    return _Stage(data, played, features, columns, moved, between, transitions, slopes)


def _td_stage(
    data: HistoryData,
    followed: Followed,
    number: int,
    features: Sequence[Single],
    columns: Sequence[slice],
    moved: Moved,
    first: list[Single],
) -> _Stage:
    assert data.td is not None
    learner, played = data.td, followed.stages[number]

    def slopes_of(index: int) -> Single:
        table = moved[index]
        own = None if table is None else np.ascontiguousarray(table[:, :, columns[index]])
        policy, reward = np.exp(played.log_policies[index]), followed.rewards[index]
        stage = data.stages[number]
        return td_slopes(learner, stage, policy, index, reward, features[index], own)

    slopes = first or [slopes_of(index) for index in range(len(features))]
    first[:] = slopes
    return _Stage(data, played, features, columns, moved, {}, [], [], slopes)


def _fixed_slopes(
    data: HistoryData, onward: sp.csr_array, features: Sequence[Single]
) -> list[Single]:
    """Derivatives of the values by the own rewards, where the policies are fixed."""
    found = {
        id(own): swept_sum(onward, own, discount=data.discount, error=SLOPE_ERROR)
        for own in {id(own): own for own in features}.values()
    }
    return [found[id(own)] for own in features]


def _blocks(stage: _Stage) -> list[IntArray]:
    """All states, a few at a time."""
    n_states = stage.data.game.n_states
    width = max(stage.data.game.n_actions) * stage.columns[-1].stop
    size = max(1, BLOCK // width)
    return [np.arange(at, min(at + size, n_states)) for at in range(0, n_states, size)]


def _gains(stage: _Stage) -> Single:
    """What enters the derivatives of the values in each state, `(n_states, agents x weights)`."""
    played, width = stage.played, stage.columns[-1].stop
    out = np.empty((stage.data.game.n_states, len(stage.features) * width), np.float32)
    for index, features in enumerate(stage.features):
        log_policy = played.log_policies[index]
        policy = np.exp(log_policy)
        worth = (policy * (played.q[index] - stage.data.temperature * log_policy))[:, None]
        worth, policy = worth.astype(np.float32), policy[:, None].astype(np.float32)
        own = stage.moved[index]
        for states in _blocks(stage):
            at = slice(states[0], states[-1] + 1)
            gain = out[at, index * width : (index + 1) * width]
            gain[:] = 0
            gain[:, stage.columns[index]] = features[at]
            for through in _through_others(stage, index, at):
                gain += np.matmul(policy[at], through)[:, 0]
            if own is not None:
                gain += np.matmul(worth[at], own[at])[:, 0]
    return out


def _through_others(stage: _Stage, index: int, at: slice | IntArray) -> list[Single]:
    """The parts of the derivative of q that come from the others' policies at fixed values."""
    found = []
    for other, slope in enumerate(stage.moved):
        if other != index and slope is not None:
            found.append(np.matmul(stage.between[index, other][at], slope[at]))
    return found


def _by_pair(
    game: MarkovGame, values: FloatArray, policies: Sequence[FloatArray], index: int, other: int
) -> Single:
    """E[V(s') | s, a^index, a^other], `(n_states, n_actions[index], n_actions[other])`."""
    successors, probabilities = game.joint_successors()
    table = (values[successors] * probabilities).sum(axis=-1)
    table = np.moveaxis(table, (index + 1, other + 1), (1, 2))
    rest = [agent for agent in range(game.n_agents) if agent not in {index, other}]
    for agent in reversed(rest):
        own = policies[agent].reshape(len(table), *[1] * (table.ndim - 2), -1)
        table = (table * own).sum(axis=-1)
    return np.asarray(table, dtype=np.float32)


def _changed(stage: _Stage, index: int, states: IntArray) -> Single:
    """Derivative of an agent's prediction x in some states, `(n, n_actions, all weights)`."""
    data, own = stage.data, stage.columns[index]
    at = slice(states[0], states[-1] + 1) if _together(states) else states
    if stage.td:
        n_actions = data.game.n_actions[index]
        changed = np.zeros((len(states), n_actions, stage.columns[-1].stop), np.float32)
        changed[:, :, own] = stage.td[index][at]
    else:
        changed = _exactly_changed(stage, index, states, at)
    changed *= np.float32(1 - data.retained)
    before = stage.moved[index]
    if before is not None and data.retained:
        changed += np.float32(data.retained * data.temperature) * before[at]
    return changed


def _exactly_changed(stage: _Stage, index: int, states: IntArray, at: slice | IntArray) -> Single:
    """Derivative of the q of equation (5) in some states, `(n, n_actions, all weights)`."""
    data, n_actions = stage.data, stage.data.game.n_actions[index]
    own = stage.columns[index]
    ahead = expected_rows(stage.transitions[index], stage.slopes[index], states, n_actions)
    ahead *= np.float32(data.discount)
    if stage.fixed:
        changed = np.zeros((len(states), n_actions, stage.columns[-1].stop), np.float32)
        changed[:, :, own] = ahead
    else:
        changed = ahead
    changed[:, :, own] += stage.features[index][at][:, None]
    for through in _through_others(stage, index, at):
        changed += through
    return changed


def _together(states: IntArray) -> bool:
    return bool(len(states)) and int(states[-1] - states[0]) + 1 == len(states)


def _next_moved(stage: _Stage, width: int, noise_variance: float) -> Moved:
    """Derivatives of the log policies of the next stage, written over those of this one."""
    data, out = stage.data, list(stage.moved)
    for index, n_actions in enumerate(data.game.n_actions):
        if data.known[index] is None and out[index] is None:
            out[index] = np.empty((data.game.n_states, n_actions, width), np.float32)
    free = [(index, table) for index, table in enumerate(out) if table is not None]
    held = {index: _held(stage, index, noise_variance) for index, _ in free}
    for states in _blocks(stage):
        at = slice(states[0], states[-1] + 1)
        first, last = np.searchsorted(stage.played.states, [states[0], states[-1] + 1])
        inside = stage.played.states[first:last] - states[0]
        # all agents' before any is written, since each may depend on those of the others
        found = [_changed(stage, index, states) for index, _ in free]
        for (index, table), changed in zip(free, found, strict=True):
            changed[inside] = np.matmul(held[index][first:last], changed[inside])
            policy = np.exp(stage.played.following[index][at]).astype(np.float32)
            changed -= np.matmul(policy[:, None], changed)
            np.divide(changed, np.float32(data.temperature), out=table[at])
    return out


def _held(stage: _Stage, index: int, noise_variance: float) -> Single:
    """How the mode of counts and prediction follows the prediction in visited states,
    `(n_visited, n_actions, n_actions)`.
    """
    one = stage.played.predicted[index]
    n_actions = one.policy.shape[1]
    fisher = one.policy[:, :, None] * (np.eye(n_actions) - one.policy[:, None, :])
    spread = (noise_variance + one.variance)[:, :, None]
    weight = spread * stage.played.visits[:, None, None] / stage.data.temperature**2
    return np.linalg.inv(np.eye(n_actions) + weight * fisher).astype(np.float32)
