"""The arguments of an observer, checked once and against each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf
from numbers import Real
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from malfl_algos.trace import LearningTrace, NextStateCounts, Stage
from malfl_env.checks import TEMPERATURES, check_numbers, shown
from malfl_env.errors import Contradiction, InputError, TooFewStages
from malfl_env.markov_game import Factor, MarkovGame

__all__ = ["Problem"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_BLOCK = 1 << 22  # entries of a table in memory
_LONGEST_CYCLE = 10_000


@dataclass(frozen=True, eq=False)
class Problem:
    """The arguments of `Observer.recover`, checked against each other.

    The check of the game depends on the content of the trace. Each transition and each count of
    next states is compared with the game's dynamics. Joint counts show only which states were
    visited: each must be reachable from the start of the game, or from the first state of an
    episode of the trace. So wrong dynamics between reachable states are not detected in a trace
    that holds joint counts only.

    Args:
        trace: the observed stages.
        game: the dynamics, stored without rewards; None: the observer estimates them.
        discount: in [0, 1); None: the observer estimates it.
        temperature: > 0; None: the reward is in units of the temperature.
        known_policies: per agent id, known policies `(n_stages, n_states, n_actions)`.

    Raises:
        InputError: for an argument out of range, and for parts that do not fit together; the
            message names both.
        Contradiction: for a trace that the game or the known policies exclude (an `InputError`).
    """

    trace: LearningTrace
    game: MarkovGame | None
    discount: float | None
    temperature: float | None
    known_policies: Mapping[str, FloatArray] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.trace, LearningTrace):
            raise InputError(f"trace must be a LearningTrace, got a {type(self.trace).__name__}")
        if self.discount is not None and not _within(self.discount, 0, 1, lowest_too=True):
            raise InputError(f"discount must be in [0, 1) or None, got {shown(self.discount)}")
        if self.temperature is not None:
            if not _within(self.temperature, 0, inf):
                raise InputError(
                    f"temperature must be > 0 and finite or None, got {shown(self.temperature)}"
                )
            if not TEMPERATURES[0] <= self.temperature <= TEMPERATURES[1]:
                raise InputError(
                    f"temperature must be from {TEMPERATURES[0]} to {TEMPERATURES[1]}, got "
                    f"{shown(self.temperature)}: scale the rewards"
                )
        if self.game is not None:
            _check_game(self.trace, self.game)
            if self.game.rewards is not None:
                object.__setattr__(self, "game", self.game.without_rewards())
        given = {} if self.known_policies is None else self.known_policies
        if not isinstance(given, Mapping):
            raise InputError(
                f"known_policies must be a mapping of agents to arrays, got {shown(given)}"
            )
        known = {
            agent: _known_policy(self.trace, agent, policies) for agent, policies in given.items()
        }
        object.__setattr__(self, "known_policies", known)

    @property
    def known(self) -> Mapping[str, FloatArray]:
        """`known_policies`; an empty mapping if no policy is known."""
        return self.known_policies or {}

    def given(self, name: Literal["discount", "temperature"]) -> float:
        """The discount or the temperature, for an observer that cannot estimate it.

        Raises:
            InputError: if it is None.
        """
        value = getattr(self, name)
        if value is None:
            raise InputError(f"{name} must be given, this observer cannot estimate it")
        return float(value)

    def require_stages(self, n_stages: int = 2) -> None:
        """Reject a trace that is too short; two stages are one improvement.

        Raises:
            TooFewStages: naming both numbers.
        """
        if self.trace.n_stages < n_stages:
            improvements = "1 improvement" if n_stages == 2 else f"{n_stages - 1} improvements"
            raise TooFewStages(
                f"recovery needs at least {n_stages} stages ({improvements}), the trace has "
                f"{self.trace.n_stages}"
            )


def _within(value: Any, lowest: float, highest: float, *, lowest_too: bool = False) -> bool:
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        number = float(value)
    except OverflowError:  # a whole number too large for a float
        return False
    return lowest < number < highest or (lowest_too and number == lowest)


def _check_game(trace: LearningTrace, game: MarkovGame) -> None:
    if not isinstance(game, MarkovGame):
        raise InputError(f"game must be a MarkovGame or None, got a {type(game).__name__}")
    if not trace.is_tabular:
        raise InputError("the trace is not tabular and cannot fit a game: give game=None")
    if (trace.n_states, trace.n_actions) != (game.n_states, game.n_actions):
        shapes = (trace.n_states, *trace.n_actions), (game.n_states, *game.n_actions)
        hint = "; the axes seem to be exchanged" if sorted(shapes[0]) == sorted(shapes[1]) else ""
        raise InputError(
            f"the trace is of a game with {trace.n_states} joint states and actions "
            f"{trace.n_actions}, the given game has {game.n_states} and {game.n_actions}{hint}"
        )
    starts = set(game.start_states.tolist())
    for number, stage in enumerate(trace.stages):
        _check_transitions(stage, game, number)
        starts |= _starts(stage)
    visits = np.stack([stage.state_counts for stage in trace.stages])
    absent = np.flatnonzero((visits.sum(axis=0) > 0) & ~_reachable(game, starts, visits))
    if absent.size:
        state = int(absent[0])
        stage_number = int(np.argmax(visits[:, state] > 0))
        raise Contradiction(
            f"stage {stage_number} visits joint state {state}, which the given game cannot reach "
            f"from its start, joint state {game.start}"
        )


def _check_transitions(stage: Stage, game: MarkovGame, number: int) -> None:
    """Check that the game gives every observed next state a probability above 0."""
    for seen in filter(None, {stage.next_state_counts, stage.seen_next_states}):
        size = max(1, _BLOCK // max(factor.successors.shape[-1] for factor in game.factors))
        for first in range(0, len(seen.rows), size):
            part = slice(first, first + size)
            allowed = _allowed(game, seen.rows[part], seen.next_states[part])
            if not allowed.all():
                _reject(stage, seen, game, number, first + int(np.argmin(allowed)))


def _allowed(game: MarkovGame, rows: IntArray, next_states: IntArray) -> NDArray[np.bool_]:
    """Whether each transition has a probability above 0, bool `(n,)`."""
    states, *actions = np.unravel_index(rows, (game.n_states, *game.n_actions))
    here, after = game.local_states(states), game.local_states(next_states)
    allowed = np.ones(len(rows), dtype=bool)
    for index, factor in enumerate(game.factors):
        own = (here[:, index], *(actions[agent] for agent in factor.agents))
        reached = factor.successors[own] == after[:, index, None]
        allowed &= (reached & (factor.probabilities[own] > 0)).any(axis=1)
    return allowed


def _reject(stage: Stage, seen: NextStateCounts, game: MarkovGame, number: int, entry: int) -> None:
    row, after = int(seen.rows[entry]), int(seen.next_states[entry])
    shape = (game.n_states, *game.n_actions)
    state, *actions = (int(index) for index in np.unravel_index(row, shape))
    where = f"stage {number}"
    steps = stage.transitions
    if steps is not None and steps.states is not None:
        same = (steps.states == state) & (steps.next_states == after)
        same &= (steps.joint_actions == actions).all(axis=1)
        if same.any():
            where += f", step {int(np.argmax(same))}"
    possible = sorted(_successors(game, state, tuple(actions)))
    shown = ", ".join(map(str, possible[:5])) + ", ..." * (len(possible) > 5)
    raise Contradiction(
        f"{where}: joint action {tuple(actions)} in joint state {state} led to joint state "
        f"{after}, the given game allows only {shown}: the trace is of another game"
    )


def _successors(game: MarkovGame, state: int, actions: tuple[int, ...]) -> set[int]:
    """The next joint states of probability above 0."""
    found = {0}
    for local, factor in zip(game.local_states(state), game.factors, strict=True):
        own = (int(local), *(actions[agent] for agent in factor.agents))
        likely = factor.successors[own][factor.probabilities[own] > 0]
        found = {base * factor.n_local + int(after) for base in found for after in likely}
    return found


def _starts(stage: Stage) -> set[int]:
    """First joint states of the episodes of a stage; empty for a stage without steps."""
    steps = stage.transitions
    if steps is None or steps.states is None or not steps.n_steps:
        return set()
    firsts = np.concatenate([[True], steps.episode_ends[:-1]])
    return set(np.unique(steps.states[firsts]).tolist())


def _reachable(game: MarkovGame, starts: set[int], visits: IntArray) -> NDArray[np.bool_]:
    """Which of the visited joint states the game can reach, bool `(n_states,)`.

    Factors move independently. So a joint state is possible after t steps exactly if each factor
    can be in its local state after t steps.
    """
    wanted = np.flatnonzero(visits.sum(axis=0) > 0)
    local = game.local_states(wanted)
    reached = np.zeros(game.n_states, dtype=bool)
    reached[list(starts)] = True
    for start in starts:
        if reached[wanted].all():
            break
        for sets in _reached_over_time(game, start):
            possible = np.ones(len(wanted), dtype=bool)
            for index, own in enumerate(sets):
                possible &= own[local[:, index]]
            reached[wanted[possible]] = True
            if reached[wanted].all():
                break
    return reached


def _reached_over_time(game: MarkovGame, start: int) -> Iterator[list[NDArray[np.bool_]]]:
    """Local states that each factor can be in after 0, 1, 2, ... steps, until the sets repeat."""
    sets = [np.zeros(factor.n_local, dtype=bool) for factor in game.factors]
    for own, position in zip(sets, game.local_states(start), strict=True):
        own[position] = True
    known: set[bytes] = set()
    for _ in range(_LONGEST_CYCLE):
        key = b"".join(np.packbits(own).tobytes() for own in sets)
        if key in known:
            return
        known.add(key)
        yield sets
        sets = [_moved(factor, own) for factor, own in zip(game.factors, sets, strict=True)]


def _moved(factor: Factor, present: NDArray[np.bool_]) -> NDArray[np.bool_]:
    reached = np.zeros(factor.n_local, dtype=bool)
    reached[factor.successors[present][factor.probabilities[present] > 0]] = True
    return reached


def _known_policy(trace: LearningTrace, agent: str, given: Any) -> FloatArray:
    if agent not in trace.agents:
        raise InputError(f"known_policies has {agent!r}, the agents are {trace.agents}")
    if not trace.is_tabular:
        raise InputError("known_policies need a tabular trace; this trace has no joint states")
    index = trace.agents.index(agent)
    expected = (trace.n_stages, trace.n_states, trace.n_actions[index])
    policies = check_numbers(
        f"the known policies of {agent}", given, allowed=f"numbers of shape {expected}"
    )
    if policies.shape != expected:
        raise InputError(
            f"the known policies of {agent} have shape {policies.shape}, expected {expected}"
        )
    if not (np.all(policies >= 0) and np.allclose(policies.sum(axis=-1), 1, atol=1e-9)):
        raise InputError(f"the known policies of {agent} are not distributions over actions")
    for number, stage in enumerate(trace.stages):
        counts = stage.action_counts(index)
        impossible = np.argwhere((counts > 0) & (policies[number] == 0))
        if len(impossible):
            state, action = map(int, impossible[0])
            raise Contradiction(
                f"the known policy of {agent} gives probability 0 to action {action} in joint "
                f"state {state} at stage {number}, but the trace has this action "
                f"{counts[state, action]} times"
            )
    return np.asarray(given, dtype=np.float64)  # not the copy: large games hold large policies
