"""All agents of many grid worlds at once, in arrays: seeds, episodes and autoreset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, NoReturn, TypeAlias

import gymnasium
import numpy as np
from numpy.typing import NDArray

from malfl_env.checks import check_choice, check_count, check_table_bytes, is_sequence, shown
from malfl_env.errors import InputError
from malfl_env.grid_world import GridWorld
from malfl_env.rules import ACTIONS
from malfl_env.vector_tables import JOINT_ENTRIES, CellTables, JointTables, joint_entries, slipped

__all__ = [
    "AUTORESET_MODES",
    "BACKENDS",
    "Batch",
    "GridWorldVector",
    "Observations",
    "seeded_generator",
]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Observations: TypeAlias = NDArray[Any]
Batch: TypeAlias = tuple[Observations, FloatArray, BoolArray, BoolArray, dict[str, Any]]

AUTORESET_MODES = ("SameStep", "NextStep", "Disabled")
"""Values of Gymnasium's `AutoresetMode`."""
BACKENDS = ("numpy", "numba", "auto")
COMPILED_GAMES = 1024
"""Up to this number of games the compiled step is faster than NumPy, because it saves calls."""


class GridWorldVector:
    """Many grid worlds with the same options, all agents at once.

    Args:
        n_games: number of games, at least 1.
        autoreset_mode: how a truncated game restarts; a member of Gymnasium's `AutoresetMode` or
            its value. "SameStep": it restarts within the step that ended it, and
            `infos["final_obs"]` holds its last observation. "NextStep": the next step puts it on
            its start, ignores its actions and gives reward 0. "Disabled": the caller resets it.
            `metadata["autoreset_mode"]` states the mode: the member of the enum, or the string
            under Gymnasium 1.0, which has no enum.
        copy: whether results are new arrays; False: the next call overwrites them.
        backend: "numpy"; "numba": a compiled step for games with joint tables (the first step of a
            process takes one or two seconds longer); "auto": numba for at most 1024 games, where
            it is faster, if it is installed and the game has joint tables. Results are equal to
            the byte.
        **options: keywords of `malfl_env.grid_world.GridWorld` except `render_mode`.

    A game with at most 2**22 pairs of a joint state and a joint action is played from joint tables,
    a larger one agent by agent.

    Raises:
        InputError: for an invalid option; for a batch or tables that would take more than
            `malfl_env.checks.MAX_TABLE_BYTES`, before memory is allocated; for `backend="numba"`
            if numba is not installed or the game has no joint tables.
    """

    def __init__(
        self,
        n_games: int,
        *,
        autoreset_mode: Any = "SameStep",
        copy: bool = True,
        backend: str = "numpy",
        **options: Any,
    ) -> None:
        n_games = self.n_games = check_count("n_games", n_games, minimum=1)
        self.autoreset_mode = _mode(autoreset_mode)
        self.metadata: dict[str, Any] = {"autoreset_mode": _tag(self.autoreset_mode)}
        if not isinstance(copy, (bool, np.bool_)):
            raise InputError(f"copy must be true or false, got {shown(copy)}")
        self.copy = copy
        if options.get("render_mode") is not None:
            raise InputError(
                "render_mode must be None: a batch cannot be rendered; use a single GridWorld"
            )
        env = GridWorld(**options)
        self.rules = env.rules
        self.max_cycles = min(env.max_cycles, 2**62)  # fits the arrays, and no episode is that long
        n_agents = self.n_agents = self.rules.n_agents
        self._space = env.state_space
        n_numbers = max(0, self._space.shape[0] - 2 * n_agents)  # more than rows and columns
        n_bytes = 8 * n_games * (10 * n_agents + 4 + n_numbers)
        check_table_bytes(n_bytes, f"a batch of {n_games} games")
        compiled = _compiled(backend, joint_entries(self.rules), n_games)
        self._tables: JointTables | CellTables
        if joint_entries(self.rules) <= JOINT_ENTRIES:
            self._tables = JointTables(
                self.rules, env.agent_rewards, form=env.observations, compiled=compiled
            )
        else:
            self._tables = CellTables(self.rules, env.agent_rewards, form=env.observations)
        self.np_random = np.random.default_rng()
        self._states = self._tables.begin(n_games)
        self._start = env.state()
        self._chosen = np.empty((n_games, n_agents), dtype=np.int64)
        self._moved = np.empty_like(self._chosen)
        self._draws = np.empty((n_games, n_agents))
        self._results = self._new_results()
        self._clock = 0  # steps of the batch; a game ends when the clock reaches its entry in _ends
        self._ends = np.full(n_games, self.max_cycles, dtype=np.int64)
        self._next_end = self.max_cycles
        self._over: BoolArray | None = None  # games that have ended and not restarted, if any
        self._under_way = False

    def reset(
        self, seed: int | Sequence[int] | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Put games on their starts.

        Args:
            seed: seeds the one generator of the batch: a whole number, or one per game, which
                seed it together; None: the generator continues. A batch of one game equals a
                `GridWorld` with the same seed.
            options: `reset_mask`, bool `(n_games,)`, selects the games; default: all.

        Returns:
            Observations of all games, the same for all agents: int64 `(n_games, 2 * n_agents)`,
            the row and column of every agent, or the form that `observations` selects, float32
            `(n_games, n)`; and an empty dictionary.

        Raises:
            InputError: for a seed that is not a whole number >= 0, a wrong number of seeds, or a
                mask of another type or shape or without a True.
            RuntimeError: for a mask before the first reset of all games.
        """
        mask = self._reset_mask(options)
        rng = seeded_generator(seed, self.n_games)
        self.np_random = self.np_random if rng is None else rng
        observations = self._new_results()[0] if self.copy else self._results[0]
        if mask is None:
            self._under_way = True
            mask = np.ones(self.n_games, dtype=bool)
        self._tables.observe(self._states, observations)
        self._restart(mask, observations)
        if self._over is not None:
            left = self._over & ~mask
            self._over = left if left.any() else None
        return observations, {}

    def step(self, actions: Any) -> Batch:
        """Move all agents of all games.

        Args:
            actions: whole numbers 0..4, `(n_games, n_agents)`, of any integer type; int64 in C
                order is read without a copy.

        Returns:
            Observations as from `reset`; rewards float64 `(n_games, n_agents)` of
            the joint states before the move; terminations (all False) and truncations, bool
            `(n_games,)`, one for all agents of a game; infos, usually empty. If a game is truncated
            with "SameStep", infos hold `final_obs`, last observations in the form of the first
            result, valid where `_final_obs`, bool `(n_games,)`, is True.

        Raises:
            InputError: for actions of another type or shape, or not 0..4. The message names game
                and agent; no game has moved.
            RuntimeError: before the first `reset`, or with "Disabled" while a game is over.
        """
        chosen = self.check_step(actions)
        results = self._new_results() if self.copy else self._results
        observations, rewards, terminations, truncations = results
        terminations.fill(False)
        truncations.fill(False)
        moved = chosen
        if self.rules.slip > 0.0:
            moved = self._moved
            slipped(chosen, self.np_random.random(out=self._draws), self.rules.slip, moved)
        self._tables.step(self._states, chosen, moved, rewards, observations)
        self._clock += 1
        if self._over is not None:  # with "NextStep" these restart instead of moving
            rewards[self._over] = 0.0
            self._restart(self._over, observations)
            self._over = None
        infos: dict[str, Any] = {}
        if self._clock == self._next_end:
            np.equal(self._ends, self._clock, out=truncations)
            infos = self._end(truncations, observations)
        return observations, rewards, terminations, truncations, infos

    def observations(self) -> Observations:
        """The present observations in a new array, as from `reset`."""
        observations = self._new_results()[0]
        self._tables.observe(self._states, observations)
        return observations

    def joint_states(self) -> IntArray:
        """The joint state of each game, int64 `(n_games,)`, numbered as in `MarkovGame`.

        Raises:
            InputError: if the game has more joint states than an int64 can number.
        """
        return np.array(self._tables.joint_states(self._states))

    def _end(self, truncations: BoolArray, observations: Observations) -> dict[str, Any]:
        """End the truncated games as the autoreset mode says; returns the infos."""
        if self.autoreset_mode != "SameStep":
            self._over = truncations.copy()
            return {}
        infos = {"final_obs": observations.copy(), "_final_obs": truncations.copy()}
        self._restart(truncations, observations)
        return infos

    def _restart(self, mask: BoolArray, observations: Observations) -> None:
        """Put the games of a mask on their starts, in the states and in the observations."""
        self._states[mask] = self._tables.start
        observations[mask] = self._start
        self._ends[mask] = self._clock + self.max_cycles
        self._next_end = int(self._ends.min())

    def _new_results(self) -> tuple[Observations, FloatArray, BoolArray, BoolArray]:
        """Empty arrays for observations, rewards, terminations and truncations."""
        observations = np.empty((self.n_games, *self._space.shape), dtype=self._space.dtype)
        rewards = np.empty((self.n_games, self.n_agents))
        return observations, rewards, np.empty(self.n_games, bool), np.empty(self.n_games, bool)

    def check_step(self, actions: Any) -> IntArray:
        """Raise as `step` would; returns the actions as int64 in C order, if possible uncopied."""
        if not self._under_way:
            raise RuntimeError("no game is running: call reset() before step()")
        if self._over is not None and self.autoreset_mode == "Disabled":
            raise RuntimeError(
                f"game {int(np.argmax(self._over))} is over and autoreset is disabled: call "
                f"reset(options={{'reset_mask': truncations}}) before step()"
            )
        try:
            array = np.asarray(actions)
        except ValueError:  # rows of different lengths
            array = np.asarray(None)
        if array.shape != self._chosen.shape or array.dtype.kind not in "iu":
            raise InputError(
                f"actions must be whole numbers of shape {self._chosen.shape}: a row per game, an "
                f"entry per agent; got shape {array.shape}, dtype {array.dtype}"
            )
        chosen = array
        if array.dtype != np.int64 or not array.flags.carray:
            np.copyto(self._chosen, array, casting="unsafe")
            chosen = self._chosen
        if chosen.view(np.uint64).max() >= len(
            ACTIONS
        ):  # as unsigned numbers, negative ones are huge
            self._reject(array)
        return chosen

    def _reject(self, actions: NDArray[Any]) -> NoReturn:
        """Raise the error that names the first invalid action."""
        game, agent = np.argwhere((actions < 0) | (actions >= len(ACTIONS)))[0]
        raise InputError(
            f"the action of agent_{agent} in game {game} must be a whole number from 0 to "
            f"{len(ACTIONS) - 1} {ACTIONS}, got {actions[game, agent]}"
        )

    def _reset_mask(self, options: Mapping[str, Any] | None) -> BoolArray | None:
        if options is not None and not isinstance(options, Mapping):
            raise InputError(f"options must be a mapping or None, got {shown(options)}")
        if options is None or "reset_mask" not in options:
            return None
        mask = options["reset_mask"]
        fits = isinstance(mask, np.ndarray) and mask.dtype == bool
        if not fits or mask.shape != (self.n_games,) or not mask.any():
            raise InputError(
                f"options['reset_mask'] must be a bool array of shape ({self.n_games},) with at "
                f"least one True, got {mask!r}"
            )
        if not self._under_way:
            raise RuntimeError("no game is running: call reset() without a reset_mask first")
        return np.array(mask)


def seeded_generator(seed: object, n_games: int) -> np.random.Generator | None:
    """The generator of a batch, seeded by one whole number or by one per game; None for None.

    Raises:
        InputError: for a seed that is not a whole number >= 0, or a wrong number of seeds.
    """
    if seed is None:
        return None
    if not is_sequence(seed):
        return np.random.default_rng(check_count("seed", seed, minimum=0))
    if len(seed) != n_games:
        raise InputError(
            f"seed must be one whole number, or one for each of the {n_games} games; got "
            f"{len(seed)} of them"
        )
    seeds = [check_count(f"seed[{game}]", own, minimum=0) for game, own in enumerate(seed)]
    return np.random.default_rng(seeds)


def _mode(mode: object) -> str:
    """The value of an autoreset mode given as a string or as Gymnasium's enum."""
    return check_choice("autoreset_mode", getattr(mode, "value", mode), AUTORESET_MODES)


def _tag(mode: str) -> Any:
    """Gymnasium's enum member of a mode; the mode itself if Gymnasium has no enum."""
    enum: Any = getattr(gymnasium.vector, "AutoresetMode", str)
    return enum(mode)


def _compiled(backend: str, n_entries: int, n_games: int) -> bool:
    """Whether the step is to be compiled."""
    if check_choice("backend", backend, BACKENDS) == "numpy":
        return False
    fits, installed = n_entries <= JOINT_ENTRIES, find_spec("numba") is not None
    if backend == "auto":
        return fits and installed and n_games <= COMPILED_GAMES
    if not installed:
        raise InputError('backend="numba" needs numba: pip install "malfl-env[algos]"')
    if not fits:
        raise InputError(
            f'backend="numba" serves games with at most {JOINT_ENTRIES} pairs of a joint state and '
            f'a joint action, this one has {n_entries}; choose "numpy" or "auto"'
        )
    return True
