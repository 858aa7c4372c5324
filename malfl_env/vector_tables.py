"""The arithmetic of many grid worlds at once; seeds and episodes are in `vector_games`.

Two classes have the same methods. `JointTables` looks up moves and rewards by the number of the
joint state and the joint action. `CellTables` moves agent by agent and serves games of any size.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_env.checks import check_table_bytes
from malfl_env.errors import InputError
from malfl_env.observations import observations_of
from malfl_env.rewards import Reward, reward_table, state_rewards
from malfl_env.rules import ACTIONS, GridRules, cell_successors
from malfl_env.tabular import grid_game

__all__ = [
    "JOINT_ENTRIES",
    "REWARD_STATES",
    "CellTables",
    "JointTables",
    "compiled_step",
    "joint_entries",
    "slipped",
]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

JOINT_ENTRIES = 2**22
"""A game with at most this many (joint state, joint action) pairs is played from joint tables."""
REWARD_STATES = 2**20
"""A larger game with at most this many joint states has its rewards of the state in tables."""


class JointTables:
    """Next joint states, rewards and observations of every joint state, as tables.

    A game's state is the number of its joint state.

    Args:
        rules: the rules of the game; their slip is ignored, because the caller draws the slips.
        rewards: one per agent, as in the result of `grid_rewards`.
        form: of the observations, one of `malfl_env.observations.FORMS`.
        compiled: whether `step` runs compiled by numba; the result is the same to the byte.

    Raises:
        InputError: if the tables would be larger than `malfl_env.checks.MAX_TABLE_BYTES`.
    """

    def __init__(
        self, rules: GridRules, rewards: tuple[Reward, ...], *, form: str, compiled: bool
    ) -> None:
        game = grid_game(replace(rules, slip=0.0), rewards)
        self.start = np.array(game.start)
        self._successors = game.next_states.reshape(-1)
        digits = game.observation(np.arange(game.n_states))
        self._observations = observations_of(form, digits, game.observation_shape)
        tables = [game.reward(i).reshape(game.n_states, -1) for i in range(game.n_agents)]
        width = max(table.shape[1] for table in tables)
        shape = (game.n_states, width)
        columns = [np.broadcast_to(table, shape).reshape(-1) for table in tables]
        self._rewards = np.stack(columns, axis=-1)
        self._by_action = width > 1
        self._compiled = compiled

    def begin(self, n_games: int) -> IntArray:
        """Initial states of games, int64 `(n_games,)`."""
        return np.full(n_games, self.start, dtype=np.int64)

    def joint_states(self, states: IntArray) -> IntArray:
        """Joint states, int64 `(n_games,)`: `states` itself."""
        return states

    def observe(self, states: IntArray, observations: NDArray[Any]) -> None:
        """Write the observations of all games into `observations`, `(n_games, n)`."""
        np.take(self._observations, states, axis=0, out=observations, mode="wrap")

    def step(
        self,
        states: IntArray,
        chosen: IntArray,
        moved: IntArray,
        rewards: FloatArray,
        observations: NDArray[Any],
    ) -> None:
        """One step of every game.

        Args:
            states: `(n_games,)`, replaced by the next states.
            chosen: actions 0..4 that determine the rewards, `(n_games, n_agents)`.
            moved: actions that move the agents, same shape; the same array if no agent slips.
            rewards: overwritten, `(n_games, n_agents)`.
            observations: overwritten, `(n_games, n)`.
        """
        if self._compiled:
            tables = (self._successors, self._rewards, self._by_action, self._observations)
            compiled_step()(states, chosen, moved, *tables, rewards, observations)
            return
        index = _mixed_radix(states, moved)
        rows = states
        if self._by_action:
            rows = index if moved is chosen else _mixed_radix(states, chosen)
        # indices are in range; with this mode, NumPy writes into `out` without a buffer
        np.take(self._rewards, rows, axis=0, out=rewards, mode="wrap")
        np.take(self._successors, index, out=states, mode="wrap")
        self.observe(states, observations)


class CellTables:
    """Next cells of each agent; rewards from tables if these exist or are small enough.

    A game's state is the cell of each agent, int64 `(n_games, n_agents)`. Arguments and methods are
    those of `JointTables`, without compilation.
    """

    def __init__(self, rules: GridRules, rewards: tuple[Reward, ...], *, form: str) -> None:
        width = 2 * rules.size if form == "one_hot" else 2
        check_table_bytes(
            rules.n_cells * (3 * 8 * len(ACTIONS) * rules.n_agents + 12 * width),
            f"the moves and observations of {rules.n_cells} cells and {rules.n_agents} agents",
            "choose a smaller board, fewer agents, or another form of observations",
        )
        self._rules = rules
        self._rewards = rewards
        if rules.n_states <= REWARD_STATES:
            tables = [reward_table(reward, rules, i) for i, reward in enumerate(rewards)]
            self._rewards = tuple(tables)
        self.start = np.array(rules.start_cells)
        agents = range(rules.n_agents)
        self._successors = np.concatenate([cell_successors(rules, i).reshape(-1) for i in agents])
        self._offsets = rules.n_cells * len(ACTIONS) * np.arange(rules.n_agents)
        places = np.divmod(np.arange(rules.n_cells), rules.size)
        self._places = np.stack(places, axis=-1).astype(np.int64)
        # what all agents observe of one agent, for each of its cells
        self._seen = observations_of(form, self._places, (rules.size, rules.size))

    def begin(self, n_games: int) -> IntArray:
        """Initial states of games, int64 `(n_games, n_agents)`."""
        return np.tile(self.start, (n_games, 1))

    def joint_states(self, states: IntArray) -> IntArray:
        """Joint states, int64 `(n_games,)`.

        Raises:
            InputError: if the game has more joint states than an int64 can number.
        """
        if self._rules.n_states > 2**63:
            raise InputError(
                f"joint states of a game of size {self._rules.size} with {self._rules.n_agents} "
                f"agents have no int64 numbers; read the observations instead"
            )
        joint = states[:, 0].copy()
        for cells in states.T[1:]:
            joint *= self._rules.n_cells
            joint += cells
        return joint

    def observe(self, states: IntArray, observations: NDArray[Any]) -> None:
        """Write the observations of all games into `observations`, `(n_games, n)`."""
        by_agent = observations.reshape(*states.shape, -1)
        np.take(self._seen, states, axis=0, out=by_agent, mode="wrap")

    def step(
        self,
        states: IntArray,
        chosen: IntArray,
        moved: IntArray,
        rewards: FloatArray,
        observations: NDArray[Any],
    ) -> None:
        """One step of every game; arguments as for `JointTables.step`."""
        self._reward(states, chosen, rewards)
        index = states * len(ACTIONS)
        index += moved
        index += self._offsets
        np.take(self._successors, index, out=states, mode="wrap")
        self.observe(states, observations)

    def _reward(self, states: IntArray, chosen: IntArray, rewards: FloatArray) -> None:
        tabulated = [isinstance(reward, np.ndarray) for reward in self._rewards]
        if any(tabulated):
            joint = self.joint_states(states)
        if not all(tabulated):
            positions = self._places[states]
        for agent_index, reward in enumerate(self._rewards):
            if isinstance(reward, np.ndarray):
                index = joint if reward.ndim == 1 else _mixed_radix(joint, chosen)
                rewards[:, agent_index] = reward.reshape(-1).take(index)
            else:
                goals = self._rules.goals
                rewards[:, agent_index] = state_rewards(reward, positions, agent_index, goals=goals)


def joint_entries(rules: GridRules) -> int:
    """Number of pairs of a joint state and a joint action: an exact int of any size."""
    return rules.n_states * int(len(ACTIONS) ** rules.n_agents)


def slipped(chosen: IntArray, draws: FloatArray, slip: float, moved: IntArray) -> None:
    """Write the executed actions: the chosen ones, or uniform ones where an agent slips.

    Args:
        chosen: int64, actions 0..4.
        draws: uniform on [0, 1), same shape; overwritten. A draw below `slip` is uniform on
            [0, slip), so it also selects the executed action.
        slip: in (0, 1].
        moved: overwritten, int64, same shape.
    """
    n_actions = len(ACTIONS)
    with np.errstate(over="ignore"):  # a slip close to 0 overflows
        np.divide(draws, slip, out=draws)
        np.multiply(draws, n_actions, out=draws)
    np.minimum(draws, n_actions, out=draws)
    np.copyto(moved, draws, casting="unsafe")
    np.copyto(moved, chosen, where=moved == n_actions)


def _mixed_radix(states: IntArray, actions: IntArray) -> IntArray:
    """Numbers of the pairs of a joint state and a joint action, int64 `(n_games,)`."""
    index = states * len(ACTIONS)
    index += actions[:, 0]
    for own in actions.T[1:]:
        index *= len(ACTIONS)
        index += own
    return index


@cache
def compiled_step() -> Any:
    """`_step` compiled by numba, for this process."""
    import numba

    return numba.njit(nogil=True)(_step)


def _step(  # noqa: PLR0917 - a compiled loop takes plain arrays
    states: Any,
    chosen: Any,
    moved: Any,
    successors: Any,
    reward_rows: Any,
    by_action: Any,
    observation_rows: Any,
    rewards: Any,
    observations: Any,
) -> None:
    """`JointTables.step`; separate loops let the processor issue many loads at once in each."""
    for game in range(states.shape[0]):
        row = index = states[game]
        for agent in range(chosen.shape[1]):
            index = index * 5 + moved[game, agent]
            if by_action:
                row = row * 5 + chosen[game, agent]
        for agent in range(rewards.shape[1]):
            rewards[game, agent] = reward_rows[row, agent]
        states[game] = index
    for game in range(states.shape[0]):
        states[game] = successors[states[game]]
    for game in range(states.shape[0]):
        for digit in range(observations.shape[1]):
            observations[game, digit] = observation_rows[states[game], digit]
