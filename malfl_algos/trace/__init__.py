"""The learning trace: the data of learning agents that an observer may read.

A trace is a sequence of stages. The data of a stage were collected under one fixed joint policy. A
trace holds neither rewards nor the policies that were played: this ground truth is in a separate
file (see `malfl_algos.ground_truth`), which only scoring reads.

There is one kind of trace for all games. A stage of a tabular game holds counts. A stage of a
non-enumerable game holds ordered steps with every agent's observations.

Public: the names that `malfl_algos` and `malfl_algos.contract` import from here.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Discrete, MultiDiscrete

from malfl_algos.trace.stages import NextStateCounts, Stage, check_below
from malfl_algos.trace.texts import trace_text
from malfl_algos.trace.transitions import OBSERVED, Transitions
from malfl_env.arguments import typed
from malfl_env.checks import check_count, is_whole, shown
from malfl_env.errors import InputError
from malfl_env.labels import Label, check_labels
from malfl_env.markov_game import MarkovGame
from malfl_env.spaces import AnySpace, check_in_space, check_observation_space, narrowed

__all__ = ["LearningTrace", "NextStateCounts", "Stage", "Transitions"]


@dataclass(frozen=True, eq=False, repr=False)
class LearningTrace:
    """All data that an observer may read: the stages in order, all of one game.

    Args:
        stages: at least one; all have counts of one shape, or all have no counts.
        agents: ids in the order of the columns of joint actions; None: `agent_0`, `agent_1`, ...
        n_actions: number of actions of each agent; None: as in the counts.
        spaces: observation space of each agent (Box, Discrete, MultiDiscrete or MultiBinary), for
            steps with observations.
        states: the label of each joint state, `(n_states,)`: text, a number, true or false, or a
            tuple of these (a state of several columns); None: states are numbers only.
        actions: for each agent the labels of its actions, `(n_actions[i],)`; None: numbers only.
        notes: sentences on how the trace was made from a log.

    Raises:
        InputError: for parts that contradict each other; the message names stage and column.
    """

    stages: tuple[Stage, ...]
    agents: tuple[str, ...] = None  # type: ignore[assignment]  # set in __post_init__
    n_actions: tuple[int, ...] = None  # type: ignore[assignment]
    spaces: tuple[AnySpace, ...] | None = None
    states: tuple[Label, ...] | None = None
    actions: tuple[tuple[Label, ...], ...] | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return trace_text(self)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", _entries("stages", self.stages))
        if not self.stages:
            raise InputError("stages must be at least one, got none")
        for own in self.stages:
            if not isinstance(own, Stage):
                raise InputError(f"stages must be of type Stage, got a {type(own).__name__}")
        shapes = {None if own.joint_counts is None else own.counts.shape for own in self.stages}
        if len(shapes) > 1:
            raise InputError(
                "the stages are of different games: their counts have shapes "
                f"{sorted(map(str, shapes))}"
            )
        self._fill_in(shapes.pop())
        if self.spaces is not None:
            self._check_observations(self.spaces)
        elif not self.is_tabular:
            raise InputError("a trace without counts needs the agents' observation spaces")
        self._check_labels()
        object.__setattr__(self, "notes", _entries("notes", self.notes))

    def _check_labels(self) -> None:
        if self.states is not None:
            size = self.n_states if self.is_tabular else 0
            object.__setattr__(self, "states", check_labels("states", self.states, size))
        if self.actions is not None:
            given = _entries("actions", self.actions)
            if len(given) != self.n_agents:
                raise InputError(
                    f"actions must have labels for each of {self.n_agents} agents, got {len(given)}"
                )
            named = zip(self.agents, given, self.n_actions, strict=True)
            labels = tuple(check_labels(f"actions of {agent}", own, n) for agent, own, n in named)
            object.__setattr__(self, "actions", labels)

    def _check_observations(self, spaces: tuple[AnySpace, ...]) -> None:
        for agent, space in zip(self.agents, spaces, strict=True):
            check_observation_space(space, where=agent)
        for index, stage in enumerate(self.stages):
            if stage.transitions is not None:
                _check_observed(stage.transitions, self, where=f"stage {index}")

    def _fill_in(self, shape: tuple[int, ...] | None) -> None:
        """Set agents, numbers of actions and spaces, as tuples of one length."""
        if self.n_actions is not None:
            given_actions = _entries("n_actions", self.n_actions)
            numbers = tuple(check_count("n_actions", own, minimum=1) for own in given_actions)
            object.__setattr__(self, "n_actions", numbers)
        n_actions = self.n_actions if shape is None else shape[1:]
        if n_actions is None:
            raise InputError("a trace without counts needs n_actions, one number for each agent")
        if self.n_actions is not None and tuple(self.n_actions) != tuple(n_actions):
            raise InputError(f"n_actions are {self.n_actions}, the counts have {n_actions}")
        if self.agents is None:
            agents = tuple(f"agent_{index}" for index in range(len(n_actions)))
        else:
            agents = _entries("agents", self.agents)
        if not all(isinstance(agent, Hashable) for agent in agents):
            raise InputError(f"agents must be ids, got {shown(agents)}")
        if not agents or len(set(agents)) != len(agents):
            raise InputError(f"agents must be distinct, at least one; got {agents}")
        given: dict[str, Any] = {"agents": agents, "n_actions": n_actions}
        if self.spaces is not None:
            given["spaces"] = _entries("spaces", self.spaces)
        for name, entries in given.items():
            if len(entries) != len(agents):
                raise InputError(
                    f"{name} must have an entry for each of {len(agents)} agents, got "
                    f"{len(entries)}"
                )
            object.__setattr__(self, name, entries)

    @property
    def is_tabular(self) -> bool:
        """Whether every stage has counts of joint states and actions."""
        return self.stages[0].joint_counts is not None

    @property
    def n_stages(self) -> int:
        """Number of stages."""
        return len(self.stages)

    @property
    def n_states(self) -> int:
        """Number of joint states; `InputError` for a trace that is not tabular."""
        return int(self.stages[0].counts.shape[0])

    @property
    def n_agents(self) -> int:
        """Number of agents."""
        return len(self.agents)

    def first(self, n_stages: int) -> LearningTrace:
        """The trace of the first stages only."""
        if not (is_whole(n_stages) and 1 <= n_stages <= self.n_stages):
            raise InputError(f"n_stages must be 1..{self.n_stages}, got {shown(n_stages)}")
        return replace(self, stages=self.stages[:n_stages])

    def with_observations(self, game: MarkovGame | None) -> LearningTrace:
        """The trace of a tabular game with every agent's observations beside the joint states.

        Args:
            game: its rewards are not read. Every agent observes the digits of the joint state
                (grid world: rows and columns). None: every agent observes its number.

        Raises:
            InputError: for a trace without transitions, or of another game.
        """
        space: AnySpace = Discrete(self.n_states)
        digits = np.arange(self.n_states)
        if game is not None:
            if not isinstance(game, MarkovGame):
                raise InputError(f"game must be a MarkovGame or None, got {shown(game)}")
            if (self.n_states, self.n_actions) != (game.n_states, game.n_actions):
                raise InputError(
                    f"the trace is of a game with {self.n_states} joint states and actions "
                    f"{self.n_actions}, the game has {game.n_states} and {game.n_actions}"
                )
            space = MultiDiscrete(list(game.observation_shape))
            digits = game.observation(digits)
        digits = narrowed(digits, space)
        stages = []
        for index, stage in enumerate(self.stages):
            steps = stage.transitions
            if steps is None or steps.states is None or steps.next_states is None:
                raise InputError(
                    f"stage {index} of the trace has no ordered transitions: let the learner "
                    "keep them (keep_transitions: true)"
                )
            observed = replace(
                steps,
                observations=dict.fromkeys(self.agents, digits[steps.states]),
                next_observations=dict.fromkeys(self.agents, digits[steps.next_states]),
            )
            stages.append(replace(stage, transitions=observed))
        return replace(self, stages=tuple(stages), spaces=(space,) * self.n_agents)

    @classmethod
    def from_table(
        cls,
        frame: Any,
        *,
        state: str | Sequence[str] | None = None,
        actions: Mapping[str, str] | None = None,
        agent: str | None = None,
        action: str | None = None,
        episode: str,
        step: str,
        stage: str | None = None,
        n_stages: int | None = None,
        episodes_per_stage: int | None = None,
        steps_per_stage: int | None = None,
        change_points: bool = False,
        subject: str | None = None,
        next_state: str | Sequence[str] | None = None,
        n_states: int | None = None,
        n_actions: int | Mapping[str, int] | None = None,
        terminated: str | None = None,
        gaps: str = "error",
        game: MarkovGame | None = None,
        compact: bool = False,
        own_state: bool = False,
        memory: int | None = None,
    ) -> LearningTrace:
        """Make a trace from a log: a table with one row per step, or per agent and step.

        Rows may be in any order. Time is ordered by `episode` and `step` (numbers and times by
        value, text in the order of the first rows). The next state of a step is that of its row, or
        the state of the following row of its episode; a last step with neither is left out, and a
        last row without actions gives the final state of its episode. `notes` of the trace say
        what was done.

        Args:
            frame: anything with columns: a mapping of names to arrays, or a table of pandas, polars
                or pyarrow. Null, NaN and text that is empty or blank have no value.
            state: the column of the joint state, or several; None with `memory`. Whole numbers
                stay themselves; labels and the combinations of several columns are numbered in
                sorted order, see `states`.
            actions: every agent's name and the column of its action (one row per step).
            agent, action: columns of the agent and its action (one row per agent and step).
                Actions that are whole numbers stay themselves, labels are numbered in sorted order.
            episode, step: columns of the episode, and of the step in it.
            stage: column of the stage; or, instead, exactly one of the following.
            n_stages: cut time into so many parts with about equally many steps.
            episodes_per_stage, steps_per_stage: begin a stage after so many.
            change_points: begin a stage where the policies change, found by the evidence.
            subject: column of the subject. All subjects are pooled, and the time of each is cut
                alike; see `from_subjects` for a trace of each.
            next_state: the columns of the next state, as many as `state` has.
            n_states: number of joint states, where they are whole numbers (default: the largest
                that occurs + 1).
            n_actions: number of actions, of all agents or by agent (default: those that occur).
            terminated: column that says whether the game terminated at the step.
            gaps: "error", or "split" to end episodes where their steps are not consecutive.
            game: of these agents in this order; numbers and names of its states and actions become
                those of the trace. Labels of several columns are compared joined by commas.
            compact: number only the states that occur, also where they are whole numbers.
            own_state: in a log with one row per agent and step, the state is that of the agent
                alone; the joint state is those of all agents, in the order of `agents`.
            memory: the joint actions of so many steps before are the state, or a part of it beside
                `state`, as in repeated games; with 0 and no `state` there is one state.

        Raises:
            InputError: naming the row (from 0) and the column: a value that is missing or not
                allowed, a second row of a step, a gap, an agent without a row; and for options that
                do not fit together.
        """
        from malfl_algos.logs.reading import trace_from_table

        return trace_from_table(
            frame,
            state=state,
            actions=actions,
            agent=agent,
            action=action,
            episode=episode,
            step=step,
            stage=stage,
            n_stages=n_stages,
            episodes_per_stage=episodes_per_stage,
            steps_per_stage=steps_per_stage,
            change_points=change_points,
            subject=subject,
            next_state=next_state,
            n_states=n_states,
            n_actions=n_actions,
            terminated=terminated,
            gaps=gaps,
            game=game,
            compact=compact,
            own_state=own_state,
            memory=memory,
        )

    @classmethod
    def from_transitions(
        cls,
        states: Any,
        actions: Mapping[str, Any],
        next_states: Any = None,
        *,
        episode_ends: Any = None,
        **roles: Any,
    ) -> LearningTrace:
        """Make a trace from arrays of steps in the order of play.

        Args:
            states: `(n_steps,)`, whole numbers or labels, or `(n_steps, n)`.
            actions: every agent's name and its actions, `(n_steps,)`.
            next_states: as `states`; None: the states of the following steps.
            episode_ends: bool `(n_steps,)`: the step is the last of its episode; None: all steps
                are of one episode.
            roles: how time is cut into stages, and sizes, as in `from_table`. `stage` is an array
                `(n_steps,)`.

        Raises:
            InputError: as `from_table`.
        """
        from malfl_algos.logs.arrays import trace_from_arrays

        return trace_from_arrays(states, actions, next_states, episode_ends, **roles)

    @classmethod
    def from_subjects(cls, frame: Any, *, subject: str, **roles: Any) -> dict[str, LearningTrace]:
        """Make a trace of each subject of a log, all with the same states and actions.

        Args:
            frame, roles: as in `from_table`.
            subject: column of the subject.

        Returns:
            The traces by the names of the subjects, in sorted order.
        """
        from malfl_algos.logs.reading import traces_by_subject

        return traces_by_subject(frame, subject=subject, **roles)

    @typed
    def save(self, path: str | Path) -> None:
        """Write the trace, atomically, without pickle.

        A tabular trace is one npz with a JSON manifest inside; any other is a folder of plain
        arrays with a manifest. `malfl_algos.TraceWriter` writes a trace that does not fit into
        memory.

        Raises:
            InputError: for a folder that exists and is not a trace.
        """
        from malfl_algos.storage.traces import save_trace

        save_trace(self, Path(path))

    @classmethod
    @typed
    def load(cls, path: str | Path, *, verify: bool = True) -> LearningTrace:
        """Read a trace written by `save`; arrays of a folder are mapped and read when used.

        Args:
            path: file or folder.
            verify: whether to read all files of a folder and compare their checksums.

        Raises:
            InputError: for a missing, incomplete or damaged file; the message names it.
        """
        from malfl_algos.storage.traces import load_trace

        return load_trace(Path(path), verify=verify)


def _entries(name: str, given: Any) -> tuple[Any, ...]:
    """The entries of a list as a tuple; text is no list."""
    scalar = isinstance(given, np.ndarray) and given.ndim == 0
    if isinstance(given, (str, bytes)) or scalar or not isinstance(given, Iterable):
        raise InputError(f"{name} must be a list or a tuple, got {shown(given)}")
    return tuple(given)


def _check_observed(steps: Transitions, trace: LearningTrace, *, where: str) -> None:
    """Reject observations and actions that are not in the agents' spaces."""
    assert trace.spaces is not None
    for kind in OBSERVED:
        observed = getattr(steps, kind) or {}
        if set(observed) != set(trace.agents):
            raise InputError(
                f"{where}: {kind} must have the agents {', '.join(map(str, trace.agents))}, got "
                f"{', '.join(map(str, observed)) or 'no agent'}"
            )
        for agent, space in zip(trace.agents, trace.spaces, strict=True):
            check_in_space(observed[agent], space, where=f"{where}, {kind} of {agent}")
    actions = steps.joint_actions
    if actions.shape[1] != trace.n_agents:
        raise InputError(
            f"{where}: joint_actions must be (n_steps, {trace.n_agents}), got {actions.shape}"
        )
    for index, (agent, n_own) in enumerate(zip(trace.agents, trace.n_actions, strict=True)):
        check_below(f"{where}: actions of {agent}", actions[:, index], n_own)
