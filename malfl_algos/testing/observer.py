"""The checks of observers, in the order of `check_observer`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from malfl_algos.contract import RecoveredRewards
from malfl_algos.plugins.results import check_result
from malfl_algos.testing.games import (
    Case,
    grid_game,
    learned_case,
    observed_case,
    odd_game,
    played_case,
    renamed,
)
from malfl_algos.testing.subject import (
    ERRORS,
    Check,
    Subject,
    evaluated,
    guarded,
    kept_contract,
    parts,
    unsettle,
)
from malfl_algos.testing.worlds import check_peeking
from malfl_algos.trace import LearningTrace, Stage, Transitions
from malfl_env.checks import shown
from malfl_env.testing.protocol import fail
from malfl_env.testing.values import difference, pieces

__all__ = ["ObserverCheck"]

SAME_AGENT = 0.5
"""Least correlation of two rewards of one agent under two names."""
REWARDS = ("rewards", "functions")
"""Fields of a result that hold rewards."""
MISPLACED = 0.3
"""Largest mean difference of correlations by which the other agent's reward may change more."""


@dataclass(frozen=True)
class ObserverCheck:
    """An observer on small traces.

    Args:
        subject: the observer.
        keep: whether it needs transitions.
    """

    subject: Subject
    keep: bool

    def checks(self) -> Iterator[Check]:
        """All checks, by name; an observer may accept tabular traces, observed steps, or both."""
        tabular, seen = self._reads(self.case), self._reads(self.observed)
        if tabular:
            case = self.case
            yield "repetition", lambda: self.honest and None
            yield "inputs", lambda: self._check_inputs(case, self.honest)
            yield "ground truth", lambda: check_peeking(self.subject, case, self.honest)
            yield "perspectives", lambda: self._check_perspectives(case)
            yield "unusual traces", lambda: self._check_odd(case)
            yield "agents", lambda: self._check_agents(case)
            yield "errors", lambda: self._check_rejections(case)
        if seen:
            other = observed_case(grid_game(1))
            yield (
                "repetition (observed steps)",
                lambda: self._check_repeats(self.observed, other) and None,
            )
            yield "errors (observed steps)", lambda: self._check_numbers(self.observed)
        if not (tabular or seen):
            yield "traces", self._refuse

    @cached_property
    def case(self) -> Case:
        """A tabular trace."""
        return learned_case("2x2 grid world", grid_game(0), keep_transitions=self.keep)

    @cached_property
    def observed(self) -> Case:
        """A trace of observed steps."""
        return observed_case(grid_game(0))

    @cached_property
    def honest(self) -> Any:
        """The result from the tabular trace, as `evaluated` gives it, after it was repeated."""
        other = learned_case("2x2 grid world", grid_game(1), keep_transitions=self.keep)
        return self._check_repeats(self.case, other)

    def _refuse(self) -> None:
        """Raise the reason why the observer reads no trace."""
        self.recover(self.case)
        fail("reads no trace", self.case.name, "it rejected a tabular trace and observed steps")

    def _reads(self, case: Case) -> bool:
        """Whether it accepts a trace of this kind."""
        try:
            self.subject.build().recover(**case.arguments())
        except ValueError:
            return False
        except ERRORS:  # the checks report it
            return True
        return True

    def recover(self, case: Case, where: str = "", observer: Any = None, **changed: Any) -> Any:
        """A checked result, under guard."""
        where = f"{case.name}{where and ', '}{where}"
        observer = self.subject.build() if observer is None else observer
        arguments = {**case.arguments(), **changed}
        result = guarded(lambda: observer.recover(**arguments), where)
        wanted = tuple(agent for agent in case.trace.agents if agent not in case.known)
        with kept_contract(where):
            check_result(result, arguments["trace"], wanted)
        return result

    def _check_repeats(self, case: Case, other: Case) -> Any:
        """One trace, one result: again, after another trace, the global generators elsewhere."""
        observer = self.subject.build()
        first = evaluated(self.recover(case, observer=observer), case)
        unsettle(7)
        gap = difference(first, evaluated(self.recover(case, "a second observer"), case))
        if gap:
            fail("one trace, two results", case.name, gap)
        elsewhere = evaluated(self.recover(other, "another trace", observer), case)
        if all(difference(first[name], elsewhere[name]) is None for name in REWARDS):
            detail = "the trace of agents with other rewards has the same recovered rewards"
            fail("result does not depend on the trace", case.name, detail)
        again = evaluated(self.recover(case, "the first trace again", observer), case)
        gap = difference(first, again)
        if gap:
            fail("an observer remembers its last trace", case.name, gap)
        return first

    def _check_inputs(self, case: Case, honest: Any) -> None:
        """Check that arguments are not changed, and that they may be read-only."""
        case = replace(case, known=case.trace.agents[:1])
        arguments = case.arguments()
        before = parts(arguments)
        known = evaluated(
            guarded(lambda: self.subject.build().recover(**arguments), case.name), case
        )
        gap = difference(before, parts(arguments))
        if gap:
            fail("inputs written to", case.name, gap)
        for agents, expected in (((), honest), (case.known, known)):
            frozen = _read_only(replace(case, known=agents))
            gap = difference(expected, evaluated(self.recover(frozen, "inputs read-only"), case))
            if gap:
                fail("result depends on whether inputs are read-only", case.name, gap)

    def _check_perspectives(self, case: Case) -> None:
        """Recover from each agent's perspective: its own policies are known."""
        for agent in case.trace.agents:
            self.recover(replace(case, known=(agent,)), f"policies of {agent} known")

    def _check_odd(self, case: Case) -> None:
        """Cases that a method may reject; a result must keep the contract."""
        odd = learned_case("game with 2 and 3 actions", odd_game(0), keep_transitions=self.keep)
        self._sound_or_rejected(odd, "")
        self._sound_or_rejected(case, "game=None", game=None)
        self._sound_or_rejected(case, "discount=None", discount=None)
        self._sound_or_rejected(case, "one stage", trace=case.trace.first(1))
        nothing = Stage(np.zeros_like(case.trace.stages[0].joint_counts), None, _no_steps(case))
        stages = list(case.trace.stages)
        for number in (0, 1, len(stages) - 1):
            holed = LearningTrace((*stages[:number], nothing, *stages[number + 1 :]))
            self._sound_or_rejected(case, f"stage {number} without data", trace=holed)
        if self.keep:
            bare = LearningTrace(tuple(replace(stage, transitions=None) for stage in stages))
            self._sound_or_rejected(case, "no transitions kept", trace=bare)

    def _sound_or_rejected(self, case: Case, where: str, **changed: Any) -> None:
        where = f"{case.name}{where and ', '}{where}"
        arguments = {**case.arguments(), **changed}
        result = self._result_or_rejection(arguments, where)
        if not isinstance(result, str):
            with kept_contract(where):
                check_result(result, arguments["trace"], case.trace.agents)

    def _result_or_rejection(self, arguments: Mapping[str, Any], where: str) -> Any:
        observer = self.subject.build()
        try:
            return observer.recover(**arguments)
        except ValueError as fault:
            return str(fault) or "(no message)"
        except ERRORS as fault:
            detail = f"expected a result or a ValueError, got {type(fault).__name__}: {fault}"
            raise AssertionError(f"wrong kind of error: {detail} ({where})") from fault

    def _check_rejections(self, case: Case) -> None:
        """Check that arguments that do not fit are rejected by a `ValueError`."""
        self._check_numbers(case)
        stranger = {"agent_9": case.policies["agent_0"]}
        misshapen = {"agent_0": case.policies["agent_0"][:, :-1]}
        other = odd_game(0).without_rewards()
        self._rejection(case, "a game of another size", {"game": other})
        self._rejection(case, "policies of an unknown agent", {"known_policies": stranger})
        self._rejection(case, "policies of the wrong shape", {"known_policies": misshapen})

    def _check_numbers(self, case: Case) -> None:
        """Check that a discount or temperature out of range is rejected by name."""
        for name, values in {
            "discount": (-0.1, 1.5, float("nan")),
            "temperature": (0.0, -1.0, float("nan")),
        }.items():
            for value in values:
                message = self._rejection(case, f"{name} = {value}", {name: value})
                if name not in message:
                    fail(
                        "rejection does not name the argument", f"{name} = {value}", shown(message)
                    )

    def _rejection(self, case: Case, where: str, changed: Mapping[str, Any]) -> str:
        result = self._result_or_rejection({**case.arguments(), **changed}, where)
        if isinstance(result, RecoveredRewards):
            fail("bad argument not rejected", where, "a result was returned")
        return str(result)

    def _check_agents(self, case: Case) -> None:
        """Check that each reward belongs to the agent of its name."""
        turned, place = renamed(case)
        first, second = (self.recover(one).rewards for one in (case, turned))
        for agent, other in zip(case.trace.agents, case.trace.agents[::-1], strict=True):
            expected = np.asarray(first[agent])
            found = np.asarray(second[other])[place]
            if found.ndim > 1:
                found = found.transpose(0, 2, 1)
            if found.shape == expected.shape and _correlation(expected, found) < SAME_AGENT:
                detail = f"{agent}, renamed to {other}, has a different reward"
                fail("result depends on the agents' names", case.name, detail)
        self._check_credit(case)

    def _check_credit(self, case: Case) -> None:
        """Check that if one agent changes its policies, its own reward changes most."""
        before = self.recover(played_case(case, case.policies)).rewards
        gaps = []
        for seed in (2, 3, 4):
            other = learned_case(case.name, grid_game(seed), keep_transitions=self.keep)
            for agent, bystander in zip(case.trace.agents, case.trace.agents[::-1], strict=True):
                policies = {**case.policies, agent: other.policies[agent]}
                after = self.recover(played_case(case, policies)).rewards
                own, others = (
                    _correlation(np.asarray(before[name]), np.asarray(after[name]))
                    for name in (agent, bystander)
                )
                gaps.append(own - others)
        if np.mean(gaps) > MISPLACED:
            detail = (
                "when only one agent changes its policies, the reward of the other agent changes "
                f"more (difference of correlations: {np.mean(gaps):.2f})"
            )
            fail("agents mixed up", case.name, detail)


def _correlation(one: Any, other: Any) -> float:
    """Pearson r; 1 if one of the two is constant."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 1.0
    return float(np.corrcoef(np.ravel(one), np.ravel(other))[0, 1])


def _no_steps(case: Case) -> Transitions | None:
    steps = case.trace.stages[0].transitions
    if steps is None or steps.states is None or steps.next_states is None:
        return None
    return Transitions(
        states=steps.states[:0],
        joint_actions=steps.joint_actions[:0],
        next_states=steps.next_states[:0],
        episode_ends=steps.episode_ends[:0],
        complete=True,
    )


def _read_only(case: Case) -> Case:
    """The same case with read-only copies of its arrays."""
    stages = tuple(
        Stage(
            stage.counts.copy(),
            stage.next_state_counts,
            None if stage.transitions is None else replace(stage.transitions),
        )
        for stage in case.trace.stages
    )
    frozen = replace(case, trace=LearningTrace(stages), policies=parts(case.policies))
    for stage in stages:
        stage.counts.flags.writeable = False
    for piece in pieces(frozen.policies):
        if isinstance(piece, np.ndarray):
            piece.flags.writeable = False
    return frozen
