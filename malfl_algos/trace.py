"""The learning trace: what an observer may see of agents that were learning.

A trace is a sequence of stages; the data of a stage were gathered under one fixed joint policy. It
holds no rewards and no true policies: those are in `malfl_algos.ground_truth`, in a file of their
own, which only scoring reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.storage.arrays import check_manifest, read_arrays, write_arrays
from malfl_algos.trace_checks import check_columns, check_counts, check_next_states, check_steps
from malfl_env.errors import InputError

__all__ = ["LearningTrace", "NextStateCounts", "Stage", "Transitions"]

FORMAT_VERSION = 1

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Transitions:
    """The steps of one stage in the order in which they were learned from.

    Args:
        states: int `(n_steps,)`: joint state before each step; None in a game that cannot be
            enumerated.
        joint_actions: int `(n_steps, n_agents)`.
        next_states: int `(n_steps,)`; None likewise.
        episode_ends: bool `(n_steps,)`: the episode was cut or ended after this step.
        complete: whether these are all the transitions that the learners learned from.
        observations, next_observations: per agent id, arrays `(n_steps, ...)`: where states cannot
            be enumerated, or beside them. After the last step of an episode, where it ended.
        terminations: bool `(n_steps,)`: the game ended there, nothing came after it; None: every
            episode was cut.

    Raises:
        InputError: for columns of different lengths, or what is missing.
    """

    states: NDArray[Any] | None
    joint_actions: NDArray[Any]
    next_states: NDArray[Any] | None
    episode_ends: NDArray[np.bool_]
    complete: bool
    observations: Mapping[str, NDArray[Any]] | None = None
    next_observations: Mapping[str, NDArray[Any]] | None = None
    terminations: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        check_columns(self)


@dataclass(frozen=True, eq=False)
class NextStateCounts:
    """How often each (joint state, joint action) led to each next state, the seen ones only.

    Args:
        rows: int `(n_seen,)`: flat index of (joint state, joint action) in an array `(n_states,
            *n_actions)`.
        next_states: int `(n_seen,)`.
        counts: int `(n_seen,)`, positive.
    """

    rows: IntArray
    next_states: IntArray
    counts: IntArray

    def __post_init__(self) -> None:
        if not len(self.rows) == len(self.next_states) == len(self.counts):
            raise InputError("rows, next_states and counts must have one length")


@dataclass(frozen=True, eq=False)
class Stage:
    """What was seen of one policy-improvement round.

    Args:
        joint_counts: int64 `(n_states, *n_actions)`: how often each joint action was played in each
            joint state.
        next_state_counts: where the game is stochastic.
        transitions: the steps themselves, when they were kept.

    Raises:
        InputError: for counts that are no counts, and states or actions that are not in the game.
    """

    joint_counts: IntArray
    next_state_counts: NextStateCounts | None = None
    transitions: Transitions | None = None

    def __post_init__(self) -> None:
        counts = self.joint_counts
        if counts.ndim < 2 or counts.dtype != np.int64:
            raise InputError(
                "joint_counts must be int64 (n_states, *n_actions), "
                f"got {counts.dtype} {counts.shape}"
            )
        if counts.size == 0:
            raise InputError(f"joint_counts must have states and actions, got {counts.shape}")
        check_counts("joint_counts", counts, minimum=0)
        if self.next_state_counts is not None:
            check_next_states(self.next_state_counts, counts)
        if self.transitions is not None and self.transitions.states is not None:
            check_steps(self.transitions, counts.shape)

    def action_counts(self, agent_index: int) -> IntArray:
        """Counts of one agent's actions, `(n_states, n_actions)`, summed over the others'
        actions.
        """
        others = tuple(axis for axis in range(1, self.joint_counts.ndim) if axis != agent_index + 1)
        return np.asarray(self.joint_counts.sum(axis=others), dtype=np.int64)

    @property
    def state_counts(self) -> IntArray:
        """Visits of each joint state, `(n_states,)`."""
        return np.asarray(
            self.joint_counts.sum(axis=tuple(range(1, self.joint_counts.ndim))), dtype=np.int64
        )


@dataclass(frozen=True, eq=False)
class LearningTrace:
    """Everything an observer may see: the stages in order, all of one game.

    Args:
        stages: at least one; counts of one shape.

    Raises:
        InputError: for no stages, or stages of different games.
    """

    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        if not self.stages:
            raise InputError("a learning trace needs at least one stage, got none")
        shapes = {stage.joint_counts.shape for stage in self.stages}
        if len(shapes) > 1:
            raise InputError(
                f"the stages are of different games: their counts have shapes {sorted(shapes)}"
            )

    @property
    def n_stages(self) -> int:
        """Number of stages."""
        return len(self.stages)

    @property
    def n_states(self) -> int:
        """Number of joint states."""
        return int(self.stages[0].joint_counts.shape[0])

    @property
    def n_actions(self) -> tuple[int, ...]:
        """Number of actions of each agent."""
        return self.stages[0].joint_counts.shape[1:]

    @property
    def n_agents(self) -> int:
        """Number of agents."""
        return len(self.n_actions)

    @property
    def agents(self) -> tuple[str, ...]:
        """Agent ids `agent_0`, `agent_1`, ... in agent order."""
        return tuple(f"agent_{index}" for index in range(self.n_agents))

    def first(self, n_stages: int) -> LearningTrace:
        """The trace cut after its first stages."""
        if not 1 <= n_stages <= self.n_stages:
            raise InputError(f"n_stages must be 1..{self.n_stages}, got {n_stages}")
        return LearningTrace(self.stages[:n_stages])

    def save(self, path: str | Path) -> None:
        """Write one npz with a JSON manifest inside, atomically, without pickle."""
        steps = [stage.transitions for stage in self.stages]
        manifest = {
            "format": "malfl learning trace",
            "version": FORMAT_VERSION,
            "n_stages": self.n_stages,
            "n_states": self.n_states,
            "n_actions": list(self.n_actions),
            "transitions_complete": [None if own is None else bool(own.complete) for own in steps],
        }
        write_arrays(Path(path), self._arrays(), manifest=manifest)

    @classmethod
    def load(cls, path: str | Path) -> LearningTrace:
        """Read a trace written by `save`.

        Raises:
            InputError: where the file is missing, cut, damaged or no trace; the message names it.
        """
        arrays, manifest = read_arrays(Path(path))
        check_manifest(Path(path), manifest, "malfl learning trace", version=FORMAT_VERSION)
        try:
            complete = manifest["transitions_complete"]
            counts = arrays["joint_counts"]
            if counts.dtype != np.int64 or list(counts.shape) != [
                manifest["n_stages"],
                manifest["n_states"],
                *manifest["n_actions"],
            ]:
                raise InputError(
                    f"its counts are {counts.dtype} {counts.shape}, its manifest says otherwise"
                )
            if len(complete) != len(counts) or not {*complete} <= {True, False, None}:
                raise InputError(f"its manifest says of its transitions: {str(complete)[:60]}")
            trace = cls(
                tuple(
                    _stage_from_arrays(counts[h], arrays, h, complete[h])
                    for h in range(len(counts))
                )
            )
            unknown = arrays.keys() - trace._arrays().keys()
            if unknown:
                raise InputError(f"it holds what no trace holds: {min(unknown)!r}")
            return trace
        except (KeyError, IndexError, TypeError, ValueError) as fault:
            raise InputError(f"{path}: not a learning trace: {fault}") from fault

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """All there is, by name in the file."""
        arrays = {"joint_counts": np.stack([stage.joint_counts for stage in self.stages])}
        for index, stage in enumerate(self.stages):
            arrays |= {f"stage_{index}/{name}": array for name, array in _stage_arrays(stage)}
        return arrays


_OBSERVED = ("observations", "next_observations")
_STEP_COLUMNS = ("states", "joint_actions", "next_states", "episode_ends", "terminations")


def _stage_arrays(stage: Stage) -> Iterator[tuple[str, NDArray[Any]]]:
    if stage.next_state_counts is not None:
        seen = stage.next_state_counts
        yield "next_state_counts", np.stack([seen.rows, seen.next_states, seen.counts])
    if stage.transitions is not None:
        for name in _STEP_COLUMNS:
            column = getattr(stage.transitions, name)
            if column is not None:
                yield f"transitions/{name}", column
        for kind in _OBSERVED:
            for agent, array in (getattr(stage.transitions, kind) or {}).items():
                yield f"transitions/{kind}/{agent}", array


def _stage_from_arrays(
    counts: IntArray, arrays: Mapping[str, NDArray[Any]], index: int, complete: bool | None
) -> Stage:
    prefix = f"stage_{index}/"
    own = {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
    seen = own.get("next_state_counts")
    transitions = None
    if complete is not None:
        observed = {
            kind: {
                name.rpartition("/")[2]: array
                for name, array in own.items()
                if name.startswith(f"transitions/{kind}/")
            }
            or None
            for kind in _OBSERVED
        }
        transitions = Transitions(
            states=own.get("transitions/states"),
            joint_actions=own["transitions/joint_actions"],
            next_states=own.get("transitions/next_states"),
            episode_ends=own["transitions/episode_ends"],
            complete=bool(complete),
            terminations=own.get("transitions/terminations"),
            **observed,
        )
    return Stage(counts, None if seen is None else NextStateCounts(*seen), transitions)
