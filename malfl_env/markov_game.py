"""The tabular model of a multi-agent game; algorithms read nothing else of a game.

A `MarkovGame` is a product of *factors*. A factor has local states and a transition table that
depends on its own local state and on the actions of some of the agents; factors move independently
of each other. The grid world has one factor per agent (its cell, its action); a game known only as
one big table, or estimated from data, is a single factor that depends on everyone's action. A joint
state is the tuple of local states, numbered in mixed radix with factor 0 most significant: with two
factors of m local states, `state = local_0 * m + local_1`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from malfl_env.arguments import Index, typed
from malfl_env.checks import check_choice, check_table_bytes, shown
from malfl_env.errors import InputError
from malfl_env.factor import Factor, frozen, make_read_only
from malfl_env.labels import Label, check_labels
from malfl_env.observations import FORMS, observation_digits

__all__ = ["Factor", "MarkovGame", "deterministic_game"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
Number = TypeVar("Number", np.int64, np.float64)


@typed
@dataclass(frozen=True, eq=False)
class MarkovGame:
    """A finite multi-agent game: dynamics as a product of factors, one reward table per agent.

    Args:
        n_actions: number of actions of each agent, in agent order.
        factors: the independently moving parts; every agent moves exactly one of them.
        start: joint state in which every episode begins; the most probable one of
            `start_probabilities`, if they are given.
        observation_shape: number of values of every digit of an observation. The joint state is the
            mixed-radix number of these digits, so the product of the shape is `n_states`. In the
            grid world it is (size, size) for every agent. Default: one digit per factor.
        rewards: per agent `(n_states,)` if its reward depends on the state alone, otherwise
            `(n_states, *n_actions)`. None: the game was stripped of its rewards, as observers
            receive it.
        observation_form: the form in which the agents of the environment observe the digits, one of
            `malfl_env.observations.FORMS`. `state_index` reads it, nothing else depends on it.
        start_probabilities: `(n_states,)`, of the joint state in which an episode begins; None:
            always `start`.
        states: name of each joint state: text, a number, true or false, or a tuple of these, as in
            a trace; None: they have none.
        actions: names of the actions, per agent; None: they have none.
        agent_names: ids of the agents; None: `agent_0`, `agent_1`, ...

    The reward of a step is a function of the joint state before the move and of the joint action.
    Reward tables are kept as read-only copies, also in copied and unpickled games.

    Raises:
        InputError: if the parts do not fit together, or a reward is not finite.
    """

    n_actions: tuple[int, ...]
    factors: tuple[Factor, ...]
    start: int
    observation_shape: tuple[int, ...] = ()
    rewards: tuple[FloatArray, ...] | None = None
    observation_form: str = "cells"
    start_probabilities: FloatArray | None = None
    states: tuple[Label, ...] | None = None
    actions: tuple[tuple[Label, ...], ...] | None = None
    agent_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not self.observation_shape:
            object.__setattr__(self, "observation_shape", self.n_local)
        check_choice("observation_form", self.observation_form, FORMS)
        self._check_dynamics()
        if prod(self.observation_shape) != self.n_states:
            raise InputError(
                f"observation_shape {self.observation_shape} numbers "
                f"{prod(self.observation_shape)} states, the game has {self.n_states}"
            )
        if not 0 <= self.start < self.n_states:
            raise InputError(
                f"start must be a joint state 0..{self.n_states - 1}, got {self.start}"
            )
        object.__setattr__(self, "start", int(self.start))
        if self.start_probabilities is not None:
            object.__setattr__(self, "start_probabilities", self._checked_starts())
        self._check_names()
        if self.rewards is not None:
            self._check_rewards(self.rewards)
            rewards = tuple(frozen(table, np.float64) for table in self.rewards)
            object.__setattr__(self, "rewards", rewards)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copied or unpickled game; its reward tables are read-only again."""
        vars(self).update(state)
        make_read_only(*(self.rewards or ()))
        if self.start_probabilities is not None:
            make_read_only(self.start_probabilities)

    @classmethod
    def from_tables(
        cls,
        next_states: ArrayLike | None = None,
        transitions: ArrayLike | None = None,
        *,
        rewards: Sequence[Any] | None = None,
        states: Sequence[Any] | None = None,
        actions: Sequence[Any] | None = None,
        start: Any = None,
        agents: Sequence[str] | None = None,
    ) -> MarkovGame:
        """A game with one factor that all agents move.

        Args:
            next_states: int `(n_states, *n_actions)`: the next joint state of every joint state and
                joint action, for a deterministic game.
            transitions: float `(n_states, *n_actions, n_states)`: probabilities of the next joint
                state. Give one of the two.
            rewards: per agent `(n_states,)` or `(n_states, *n_actions)`; None: unknown.
            states: names of the joint states, in order; None: they have none.
            actions: names of the actions: one list for each agent, or one list for all agents.
            start: number or name of the joint state in which episodes begin, or probabilities
                `(n_states,)`; None: any joint state, with equal probabilities.
            agents: ids of the agents; None: `agent_0`, `agent_1`, ...

        Raises:
            InputError: naming the table, its shape or value and what is allowed.
        """
        from malfl_env.game_tables import game_from_tables

        return game_from_tables(
            next_states,
            transitions,
            rewards=rewards,
            states=states,
            actions=actions,
            start=start,
            agents=agents,
        )

    @classmethod
    @typed
    def load(cls, path: str | Path) -> MarkovGame:
        """Read a game that `save` wrote.

        Raises:
            InputError: naming the file, if it is missing, damaged, of another kind, or its parts do
                not fit together.
        """
        from malfl_env.game_files import load_game

        return load_game(path)

    @typed
    def save(self, path: str | Path) -> None:
        """Write the game into one compressed npz; it appears complete or not at all.

        The same game gives the same bytes.

        Args:
            path: of the file; an existing file is replaced.
        """
        from malfl_env.game_files import save_game

        save_game(self, path)

    def _checked_starts(self) -> FloatArray:
        given = np.asarray(self.start_probabilities, dtype=np.float64)
        if given.shape != (self.n_states,):
            raise InputError(
                f"start_probabilities must have shape {(self.n_states,)}, got {given.shape}"
            )
        if not (np.all(given >= 0) and abs(given.sum() - 1) <= 1e-9):
            raise InputError(
                "start_probabilities must be >= 0 and sum to 1, got values from "
                f"{given.min()} to {given.max()} with sum {given.sum()}"
            )
        if not given[self.start] > 0:
            raise InputError(f"start_probabilities give joint state {self.start}, start, 0")
        return frozen(given, np.float64)

    def _check_names(self) -> None:
        """Store the names as tuples, after a check of their number."""
        if self.states is not None:
            object.__setattr__(self, "states", check_labels("states", self.states, self.n_states))
        if self.agent_names is not None:
            names = check_labels("agent_names", self.agent_names, self.n_agents)
            object.__setattr__(self, "agent_names", tuple(map(str, names)))
        if self.actions is None:
            return
        given = tuple(self.actions)
        if len(given) != self.n_agents:
            raise InputError(
                f"actions must have the names of {self.n_agents} agents' actions, got {len(given)}"
            )
        named = [
            check_labels(f"actions of agent {index}", own, n)
            for index, (own, n) in enumerate(zip(given, self.n_actions, strict=True))
        ]
        object.__setattr__(self, "actions", tuple(named))

    def _check_dynamics(self) -> None:
        movers = sorted(agent for factor in self.factors for agent in factor.agents)
        if movers != list(range(self.n_agents)):
            raise InputError(
                f"every agent of n_actions {self.n_actions} must move exactly one factor, but the "
                f"factors are moved by {movers}"
            )
        for factor in self.factors:
            expected = tuple(self.n_actions[agent] for agent in factor.agents)
            if factor.successors.shape[1:-1] != expected:
                raise InputError(
                    f"the factor of agents {factor.agents} has tables for "
                    f"{factor.successors.shape[1:-1]} actions, expected {expected}"
                )

    def _check_rewards(self, rewards: Sequence[FloatArray]) -> None:
        if len(rewards) != self.n_agents:
            raise InputError(
                f"rewards must be one table for each of {self.n_agents} agents, got {len(rewards)}"
            )
        allowed = ((self.n_states,), (self.n_states, *self.n_actions))
        for agent_index, table in enumerate(rewards):
            if table.shape not in allowed:
                raise InputError(
                    f"rewards: that of agent {agent_index} has shape {table.shape}, "
                    f"expected {allowed[0]} or {allowed[1]}"
                )
            if not np.all(np.isfinite(table)):
                raise InputError(
                    f"rewards: that of agent {agent_index} has values that are not finite"
                )

    @property
    def n_agents(self) -> int:
        """Number of agents."""
        return len(self.n_actions)

    @property
    def n_local(self) -> tuple[int, ...]:
        """Number of local states of each factor."""
        return tuple(factor.n_local for factor in self.factors)

    @property
    def n_states(self) -> int:
        """Number of joint states, reachable or not."""
        return prod(self.n_local)

    @property
    def agents(self) -> tuple[str, ...]:
        """Agent ids in agent order."""
        if self.agent_names is not None:
            return self.agent_names
        return tuple(f"agent_{index}" for index in range(self.n_agents))

    @property
    def deterministic(self) -> bool:
        """Whether every joint state and joint action has one next state."""
        return all(factor.deterministic for factor in self.factors)

    @property
    def start_states(self) -> IntArray:
        """The joint states in which an episode can begin, increasing, int64."""
        if self.start_probabilities is None:
            return np.array([self.start], dtype=np.int64)
        return np.flatnonzero(self.start_probabilities)

    @property
    def start_distribution(self) -> FloatArray:
        """Probabilities of the joint state in which an episode begins, `(n_states,)`."""
        if self.start_probabilities is not None:
            return self.start_probabilities
        certain = np.zeros(self.n_states)
        certain[self.start] = 1.0
        return certain

    @typed
    def at_start(self, values: FloatArray) -> float:
        """Expectation over the start of an episode of values `(n_states,)`."""
        if values.shape != (self.n_states,):
            raise InputError(f"values must have shape {(self.n_states,)}, got {values.shape}")
        if self.start_probabilities is None:
            return float(values[self.start])
        return float(self.start_probabilities @ values)

    @typed
    def drawn_starts(self, n_episodes: Index, rng: np.random.Generator) -> IntArray:
        """Joint states in which episodes begin, int64 `(n_episodes,)`; draws only if needed."""
        if self.start_probabilities is None:
            return np.full(n_episodes, self.start, dtype=np.int64)
        return rng.choice(self.n_states, size=n_episodes, p=self.start_probabilities)

    def state_index(self, observation: ArrayLike) -> int | IntArray:
        """Joint state of an observation.

        Args:
            observation: whole numbers `(..., len(observation_shape))`: one digit per entry of
                `observation_shape`; in the grid world the row and column of every agent. In games
                whose `observation_form` is not "cells", floats are read in that form; whole numbers
                of an integer type remain digits.

        Returns:
            The joint state: an int for one observation, else an int64 array `(...)`.

        Raises:
            InputError: for a wrong number of digits, a digit that is not a whole number in its
                range, or floats that are not the observation of a joint state.
        """
        shape = self.observation_shape
        digits = observation_digits(self.observation_form, observation, shape)
        columns = np.moveaxis(digits, -1, 0)
        index = np.asarray(np.ravel_multi_index(tuple(columns), shape), dtype=np.int64)
        return int(index) if digits.ndim == 1 else index

    @typed
    def observation(self, states: int | IntArray) -> IntArray:
        """Digits of joint states, int64 `(..., len(observation_shape))`, in every form.

        The inverse of `state_index`.
        """
        digits = self._digits(states, self.observation_shape)
        return np.stack(digits, axis=-1).astype(np.int64)

    def _digits(self, states: int | IntArray, shape: tuple[int, ...]) -> tuple[IntArray, ...]:
        try:
            return np.unravel_index(np.asarray(states), shape)
        except (ValueError, TypeError):
            raise InputError(
                f"states must be whole numbers 0..{self.n_states - 1}, got {shown(states)}"
            ) from None

    @typed
    def local_states(self, states: int | IntArray) -> IntArray:
        """Local state of every factor for joint states, int64 `(..., n_factors)`."""
        digits = self._digits(states, self.n_local)
        return np.stack(digits, axis=-1).astype(np.int64)

    @property
    def next_states(self) -> IntArray:
        """Next joint state of every joint state and joint action, int64 `(n_states, *n_actions)`.

        Raises:
            InputError: if the game is stochastic (its transition probabilities are in `factors`),
                or if the table would be larger than `MAX_TABLE_BYTES`.
        """
        if not self.deterministic:
            raise InputError(
                "next_states exists for deterministic games only; this one is stochastic: "
                "use joint_successors() or factors"
            )
        return self._joint_next_states()[..., 0]

    def joint_successors(self) -> tuple[IntArray, FloatArray]:
        """All next joint states and their probabilities.

        Returns:
            int64 and float64, each `(n_states, *n_actions, n_joint_successors)`. The last axis runs
            over all combinations of the factors' successors and may contain a next state more than
            once. The number of combinations is the product over the factors; algorithms on large
            games therefore contract one factor at a time.

        Raises:
            InputError: if the tables would be larger than `MAX_TABLE_BYTES`.
        """
        successors = self._joint_next_states()
        probabilities = np.ones(1)
        for position, factor in enumerate(self.factors):
            own = self._spread(position, factor.probabilities)
            probabilities = probabilities[..., :, None] * own
            probabilities = probabilities.reshape(*probabilities.shape[:-2], -1)
        return successors, probabilities

    def _joint_next_states(self) -> IntArray:
        """Next joint states of all combinations of successors, as in `joint_successors`."""
        n_joint = prod(factor.successors.shape[-1] for factor in self.factors)
        n_bytes = 16 * self.n_states * prod(self.n_actions) * n_joint
        check_table_bytes(n_bytes, f"the joint transitions of {self.n_states} joint states")
        successors = np.zeros(1, dtype=np.int64)
        for position, factor in enumerate(self.factors):
            own = self._spread(position, factor.successors)
            successors = successors[..., :, None] * factor.n_local + own
            successors = successors.reshape(*successors.shape[:-2], -1)
        return successors

    def _spread(self, position: int, table: NDArray[Number]) -> NDArray[Number]:
        """A factor's table `(n_states, *axes of the agents, 1, n_successors)`.

        The axis of an agent that does not move this factor has length 1.
        """
        local = np.unravel_index(np.arange(self.n_states), self.n_local)[position]
        axes = [1] * self.n_agents
        for agent in self.factors[position].agents:
            axes[agent] = self.n_actions[agent]
        return table[local].reshape(self.n_states, *axes, 1, table.shape[-1])

    @typed
    def reward(self, agent_index: int) -> FloatArray:
        """Reward table of one agent, read-only.

        Returns:
            `(n_states,)` when it depends on the state alone, else `(n_states, *n_actions)`.

        Raises:
            InputError: if the game was stripped of its rewards, or there is no such agent.
        """
        if self.rewards is None:
            raise InputError("this game was stripped of its rewards: observers may not read them")
        if not 0 <= agent_index < self.n_agents:
            raise InputError(f"agent_index must be 0..{self.n_agents - 1}, got {agent_index}")
        return self.rewards[agent_index]

    def without_rewards(self) -> MarkovGame:
        """The same dynamics with the rewards removed: what an observer may see."""
        return replace(self, rewards=None)

    @typed
    def with_rewards(self, rewards: Sequence[FloatArray]) -> MarkovGame:
        """The same dynamics with other rewards, one table per agent; the tables are copied."""
        return replace(
            self, rewards=tuple(np.asarray(table, dtype=np.float64) for table in rewards)
        )


@typed
def deterministic_game(
    next_states: IntArray, *, start: int, rewards: Sequence[FloatArray] | None = None
) -> MarkovGame:
    """A game given as one table of next states.

    Args:
        next_states: int `(n_states, *n_actions)`: the next joint state of every joint state and
            joint action.
        start: joint state in which every episode begins.
        rewards: per agent `(n_states,)` or `(n_states, *n_actions)`.

    Raises:
        InputError: as `Factor` and `MarkovGame`.
    """
    table = np.array(next_states)[..., None]
    n_actions = table.shape[1:-1]
    factor = Factor(tuple(range(len(n_actions))), table, np.ones(table.shape))
    game = MarkovGame(n_actions, (factor,), start)
    return game if rewards is None else game.with_rewards(rewards)
