"""`check_observer`: our observers pass, an observer with a fault does not."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from own_plugins import own_plugins

from malfl_algos.contract import RecoveredRewards
from malfl_algos.ground_truth import GroundTruth
from malfl_algos.observers.log_policy import LogPolicy
from malfl_algos.testing import check_observer
from malfl_algos.trace import LearningTrace

OWN = [plugin.name for plugin in own_plugins() if plugin.kind == "observer"]
SLOW = {
    "ma-lfl-bellman",
    "ma-lfl-history",
    "ma-lfl-replay",
    "ma-lfl-faithful",
    "maxent-irl",
    "logel",
}
QUICK = {
    "ma-lfl-bellman": {"passes": 1},
    "ma-lfl-history": {"prior": "iid", "improvement": 0.0},
    "ma-lfl-replay": {"passes": 1},
}

Given = dict[str, Any]


@dataclass(frozen=True)
class Observer(LogPolicy):
    """`log-policy`; subclasses add an error."""

    def recover(self, trace: LearningTrace, **given: Any) -> RecoveredRewards:
        return self.spoil(super().recover(trace, **given), trace, given)

    def spoil(
        self, result: RecoveredRewards, trace: LearningTrace, given: Given
    ) -> RecoveredRewards:
        return result


def _of_class(**fields: Any) -> type:
    return dataclass(frozen=True)(type("Faulty", (Observer,), {"__module__": __name__, **fields}))


def spoiling(spoil: Callable[[RecoveredRewards, LearningTrace, Given], Any]) -> type:
    """An observer whose result is changed, given its arguments."""
    return _of_class(spoil=lambda self, result, trace, given: spoil(result, trace, given))


def returning(**parts: Callable[[Mapping[str, Any]], Any]) -> type:
    """An observer with other fields in its result, each computed from the rewards."""
    return spoiling(
        lambda result, trace, given: replace(
            result, **{name: make(result.rewards) for name, make in parts.items()}
        )
    )


def adding(number: Callable[[], Any]) -> type:
    """An observer that adds another number to its rewards."""

    def spoil(result: RecoveredRewards, trace: LearningTrace, given: Given) -> RecoveredRewards:
        try:
            more = float(np.sum(number()))
        except (LookupError, OSError, ValueError, subprocess.CalledProcessError):
            more = 0.0
        return replace(result, rewards={k: own + more for k, own in result.rewards.items()})

    return spoiling(spoil)


def tempted(number: Callable[[LearningTrace, Given], Any]) -> type:
    """An observer that reads ground truth from attributes of its arguments."""

    def spoil(result: RecoveredRewards, trace: LearningTrace, given: Given) -> RecoveredRewards:
        try:
            more = number(trace, given)
        except AttributeError:
            return result
        return replace(result, rewards={k: own + more for k, own in result.rewards.items()})

    return spoiling(spoil)


def _up_the_stack() -> Any:
    """Ground truth in the variables of callers."""
    frame: Any = sys._getframe()
    while frame is not None:
        for value in frame.f_locals.values():
            if isinstance(value, GroundTruth):
                return value.rewards["agent_0"]
        frame = frame.f_back
    return 0.0


def _in_memory() -> Any:
    truths = [thing for thing in gc.get_objects() if isinstance(thing, GroundTruth)]
    return sum(float(truth.rewards["agent_0"][0]) for truth in truths)


def _on_the_disk() -> Any:
    first, *_ = [*Path().rglob("ground_truth.npz"), "none"]
    return GroundTruth.load(first).rewards["agent_0"]


def _looked_at() -> Any:
    with open("config.yaml", encoding="utf-8"):
        return 0.0


def _by_another_process() -> Any:
    program = "import sys; print(sum(map(ord, open(sys.argv[1]).read())))"
    command = [sys.executable, "-c", program, os.path.join(sys.argv[-1], "summary.json")]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@dataclass(frozen=True)
class Remembering(Observer):
    """Adds up all traces that it was given."""

    def recover(self, trace: LearningTrace, **given: Any) -> RecoveredRewards:
        seen = self.__dict__.setdefault("seen", {})
        seen[int(trace.stages[-1].joint_counts.ravel()[:50] @ np.arange(50))] = 1
        result = super().recover(trace, **given)
        return replace(result, rewards={k: own + len(seen) for k, own in result.rewards.items()})


@dataclass(frozen=True)
class Undemanding(LogPolicy):
    """Needs transitions but has no `needs_transitions`."""

    def recover(self, trace: LearningTrace, **given: Any) -> RecoveredRewards:
        assert trace.stages[0].transitions is not None, "transitions, please"
        return super().recover(trace, **given)


@dataclass(frozen=True)
class Unready(LogPolicy):
    """Has `needs_transitions`, but fails without transitions."""

    needs_transitions: ClassVar[bool] = True

    def recover(self, trace: LearningTrace, **given: Any) -> RecoveredRewards:
        assert len(trace.stages[0].transitions.states) >= 0  # type: ignore[union-attr,arg-type]
        return super().recover(trace, **given)


@dataclass(frozen=True)
class Gullible(LogPolicy):
    """Accepts any argument."""

    spared: ClassVar[str] = "discount"

    def recover(self, trace: LearningTrace, **given: Any) -> RecoveredRewards:
        sound: Given = {"discount": 0.5, "temperature": 0.5, "game": None, "known_policies": None}
        return super().recover(trace, **{**given, self.spared: sound[self.spared]})


def gullible(argument: str) -> type:
    """An observer that ignores one of its arguments."""
    spared = type("Faulty", (Gullible,), {"__module__": __name__, "spared": argument})
    return dataclass(frozen=True)(spared)


@dataclass(frozen=True)
class Wordless(Observer):
    """Rejects without naming the value."""

    def recover(self, trace: LearningTrace, **given: Any) -> RecoveredRewards:
        try:
            return super().recover(trace, **given)
        except ValueError:
            raise ValueError("bad input") from None


@dataclass(frozen=True)
class Careless(Observer):
    """Divides by a number that may be 0."""

    def recover(self, trace: LearningTrace, **given: Any) -> RecoveredRewards:
        for stage in trace.stages:
            1 // int(stage.joint_counts.sum())
        return super().recover(trace, **given)


@dataclass(frozen=True)
class Hollow(Observer):
    """Returns NaN for agents without data."""

    def spoil(
        self, result: RecoveredRewards, trace: LearningTrace, given: Given
    ) -> RecoveredRewards:
        empty = any(not stage.joint_counts.any() for stage in trace.stages)
        nothing = np.nan if empty else 0.0
        return replace(result, rewards={k: own + nothing for k, own in result.rewards.items()})


@dataclass(frozen=True)
class OtherSignature:
    """Needs the rewards of the game."""

    api_version: ClassVar[tuple[int, int]] = (2, 0)

    def recover(self, trace: Any, *, game: Any, discount: Any, rewards: Any) -> Any:
        return None


@dataclass(frozen=True)
class Undocumented(LogPolicy):
    """Has an option without documentation."""

    mood: float = 0.0


def _writes_counts(result: Any, trace: LearningTrace, given: Given) -> Any:
    counts = trace.stages[0].joint_counts
    counts.flags.writeable = True
    counts += 1
    return result


def _writes_policies(result: Any, trace: LearningTrace, given: Given) -> Any:
    for policies in (given["known_policies"] or {}).values():
        if policies.flags.writeable:
            policies[0] = 0.5
    return result


def _scratches(result: Any, trace: LearningTrace, given: Given) -> Any:
    """Writes to its input and restores it."""
    counts = trace.stages[0].joint_counts
    counts += 1
    counts -= 1
    return result


def _first_for_all(rewards: Mapping[str, Any]) -> dict[str, Any]:
    return dict.fromkeys(rewards, rewards["agent_0"]) if "agent_0" in rewards else dict(rewards)


def _exchanged(result: RecoveredRewards, trace: LearningTrace, given: Given) -> RecoveredRewards:
    own = dict(result.rewards)
    if trace.n_actions[0] != trace.n_actions[1]:
        return result
    # each agent's table with the axes of the actions exchanged, too
    swapped = {k: own[o].transpose(0, 2, 1) for k, o in zip(own, reversed(own), strict=True)}
    return replace(result, rewards=swapped)


def _known_left_out(result: RecoveredRewards, trace: Any, given: Given) -> RecoveredRewards:
    return replace(result, rewards={"agent_0": result.rewards["agent_0"]})


FAULTS: dict[str, list[Any]] = {
    r"not a plugin: .*recover\(self.*cannot be called": [OtherSignature],
    "option without documentation: Undocumented.mood": [Undocumented],
    "call raised: AssertionError: transitions, please": [Undemanding],
    "not a RecoveredRewards": [spoiling(lambda result, trace, given: result.rewards)],
    "not keyed by agent": [
        returning(rewards=lambda own: list(own.values())),
        returning(diagnostics=lambda own: [1, 2]),
    ],
    "reward of an unknown agent": [
        returning(rewards=lambda own: {**own, "agent_2": own["agent_0"]})
    ],
    "agent missing from rewards": [spoiling(_known_left_out)],
    "wrong shape: rewards": [
        returning(rewards=lambda own: {k: reward[:-1] for k, reward in own.items()}),
        returning(rewards=lambda own: {k: reward.tolist() for k, reward in own.items()}),
        returning(rewards=lambda own: {k: reward[:, :, 0] for k, reward in own.items()}),
    ],
    "wrong shape: sd": [returning(sd=lambda own: {k: reward[:, 0] for k, reward in own.items()})],
    "wrong shape: covariance": [returning(covariance=lambda own: own)],
    "wrong shape: targets": [returning(targets=lambda own: own)],
    "wrong shape: potentials": [returning(potentials=lambda own: own)],
    "wrong shape: estimated_policies": [returning(estimated_policies=lambda own: own)],
    "not numbers": [returning(rewards=lambda own: {k: reward + 0j for k, reward in own.items()})],
    "not finite: rewards": [
        returning(rewards=lambda own: {k: np.where(r > r.min(), r, np.nan) for k, r in own.items()})
    ],
    "not finite: .*without data": [Hollow],
    "negative spread": [returning(sd=lambda own: {k: -np.ones_like(r) for k, r in own.items()})],
    "covariance not symmetric": [
        spoiling(
            lambda result, trace, given: replace(
                result,
                rewards={k: r[:, 0, 0].copy() for k, r in result.rewards.items()},
                covariance={k: np.triu(np.ones((len(r),) * 2)) for k, r in result.rewards.items()},
            )
        )
    ],
    "policy is not a distribution": [
        spoiling(
            lambda result, trace, given: replace(
                result,
                estimated_policies={
                    agent: np.ones((trace.n_stages, trace.n_states, n))
                    for agent, n in zip(trace.agents, trace.n_actions, strict=True)
                },
            )
        )
    ],
    "diagnostics are not JSON": [
        returning(diagnostics=lambda own: {"agent_0": {1, 2}}),
        returning(diagnostics=lambda own: {"agent_0": {(1, 2): 3}}),
    ],
    "one trace, two results": [adding(lambda: os.urandom(1)[0] + os.urandom(1)[0] * 256)],
    "global random state touched": [
        adding(random.random),
        adding(lambda: np.random.rand()),  # noqa: NPY002
    ],
    "an observer remembers its last trace": [Remembering],
    "result does not depend on the trace": [
        returning(rewards=lambda own: {k: np.ones_like(r) for k, r in own.items()})
    ],
    "inputs written to": [spoiling(_writes_counts), spoiling(_writes_policies)],
    "call raised: ValueError: .*read-only": [spoiling(_scratches)],
    "reads what it may not see: .*files and memory|reads.*it opened": [
        adding(_up_the_stack),
        adding(_in_memory),
        adding(_on_the_disk),
        adding(_by_another_process),
        tempted(lambda trace, given: trace.truth.rewards["agent_0"][0]),  # type: ignore[attr-defined]
        tempted(lambda trace, given: trace.stages[1].joint_policy["agent_1"][0, 0]),  # type: ignore[attr-defined]
    ],
    "reads what it may not see: it opened config.yaml": [adding(_looked_at)],
    "reads what it may not see: .*rewards of the game": [
        tempted(
            lambda trace, given: (
                given["game"] is not None
                and given["game"].rewards is not None
                and given["game"].reward(0)[0]
            )
        ),
    ],
    "result depends on the agents' names": [returning(rewards=_first_for_all)],
    "agents mixed up": [spoiling(_exchanged)],
    "bad argument not rejected: .*discount": [gullible("discount")],
    "bad argument not rejected: .*temperature": [gullible("temperature")],
    "bad argument not rejected: .*a game of another size": [gullible("game")],
    "bad argument not rejected: .*unknown agent": [gullible("known_policies")],
    "rejection does not name the argument": [Wordless],
    "wrong kind of error: .*ZeroDivisionError.*without data": [Careless],
    "wrong kind of error: .*AttributeError.*no transitions kept": [Unready],
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in OWN],
)
def test_our_own_observers_pass(name):
    check_observer(name, options=QUICK.get(name))


@pytest.mark.parametrize(
    ("complaint", "faulty"),
    [(complaint, faulty) for complaint, own in FAULTS.items() for faulty in own],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_fault_is_found_and_named(complaint, faulty):
    before, folder = random.getstate(), os.getcwd()
    with pytest.raises(AssertionError, match=f"^({complaint})"):
        check_observer(faulty)
    assert random.getstate() == before
    assert os.getcwd() == folder
    assert sys.argv[0] != "malfl"
