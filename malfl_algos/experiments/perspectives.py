"""Recover rewards from a perspective: an external observer, or each agent about the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from malfl_algos.contract import Observer, Problem, RecoveredRewards, Verdict
from malfl_algos.plugins.results import recovered_rewards
from malfl_algos.trace import LearningTrace
from malfl_algos.verdict.words import joined
from malfl_algos.work.telling import say
from malfl_env import MarkovGame

__all__ = ["Recovered", "recover"]

FloatArray = NDArray[np.float64]
Recovered = Mapping[str, RecoveredRewards]
"""Results by the id of the observing agent; the key "" stands for an external observer, and for the
joined results of two agents that observe each other."""


def recover(
    observer: Observer,
    trace: LearningTrace,
    *,
    game: MarkovGame | None,
    discount: float | None,
    temperature: float | None,
    seat: Literal["external", "agent"] = "external",
    policies: Mapping[str, FloatArray] | None = None,
    by: str = "the observer",
    of_agent: Callable[[str], Observer] | None = None,
    judged: bool = True,
    brief: bool = False,
) -> Recovered:
    """Recover rewards from a trace.

    Args:
        observer: the observer.
        trace, game, discount, temperature: as for `Observer.recover`.
        seat: the perspective: "external", or "agent": each agent in turn observes the others and
            knows its own policies.
        policies: per agent id the policies `(n_stages, n_states, n_actions)`, with at least the
            stages of the trace. An external observer knows them all, an agent its own.
        by: the observer's name in messages.
        of_agent: makes the observer of an observing agent; None: all agents use `observer`.
        judged: whether to make the verdict. It costs a recovery by `ma-lfl-bellman`, except for the
            results of `ma-lfl-bellman` and `ma-lfl-replay`.
        brief: see `malfl_algos.judge`.

    Returns:
        Perspective "external": one result for all agents. Perspective "agent": for two agents one
        result, keyed by the observed agent; for more agents, one result per observing agent, about
        all the others.

    Raises:
        InputError: from the observer.
        PluginFault: if its result breaks the contract.
    """
    known = {agent: own[: trace.n_stages] for agent, own in (policies or {}).items()}

    def result(
        known_policies: Mapping[str, FloatArray], wanted: Sequence[str], observing: Observer
    ) -> RecoveredRewards:
        problem = Problem(trace, game, discount, temperature, known_policies)
        found = recovered_rewards(observing, problem, by=by, wanted=wanted)
        noted = _noted(found, trace.n_stages)
        if not judged:
            return noted
        from malfl_algos import judge

        say("verdict")
        with_steps = not brief or getattr(observing, "needs_transitions", False)
        verdict = judge(
            noted,
            trace if with_steps else _without_steps(trace),
            game=game,
            discount=discount,
            temperature=temperature,
            known_policies=known_policies,
            observer=observing,
            brief=brief,
        )
        return replace(noted, verdict=verdict)

    if seat == "external":
        return {"": result(known, trace.agents, observer)}
    by_observing = {}
    for agent in trace.agents:
        others = tuple(other for other in trace.agents if other != agent)
        own = observer if of_agent is None else of_agent(agent)
        by_observing[agent] = _of_agents(result({agent: known[agent]}, others, own), others)
    if trace.n_agents > 2:
        return by_observing
    return {"": _joined(by_observing)}


def _without_steps(trace: LearningTrace) -> LearningTrace:
    """The counts alone, so that a run's verdict does not depend on what other observers need."""
    if not trace.is_tabular:
        return trace
    return replace(trace, stages=tuple(replace(own, transitions=None) for own in trace.stages))


def _noted(result: RecoveredRewards, n_stages: int) -> RecoveredRewards:
    """The result with the number of its stages; held-out prediction needs to know the others."""
    said = {agent: result.diagnostics.get(agent, {}) for agent in result.agents}
    noted = {agent: {**own, "n_stages": n_stages} for agent, own in said.items()}
    return replace(result, diagnostics={**result.diagnostics, **noted})


def _of_agents(result: RecoveredRewards, agents: tuple[str, ...]) -> RecoveredRewards:
    """The parts of a result that concern the given agents."""
    parts: dict[str, Any] = {}
    for part in fields(RecoveredRewards):
        whole = getattr(result, part.name)
        if isinstance(whole, Verdict):
            own = {agent: whole.agents[agent] for agent in agents if agent in whole.agents}
            parts[part.name] = joined(own) if own else whole
            continue
        if part.name == "source":
            parts[part.name] = whole
            continue
        kept = {agent: whole[agent] for agent in agents if agent in whole} if whole else whole
        parts[part.name] = kept
    return RecoveredRewards(**parts)


def _joined(by_observing: Recovered) -> RecoveredRewards:
    """One result from two, each about the agent that the other observes; agents in order."""
    results = list(by_observing.values())[::-1]
    parts: dict[str, Any] = {}
    for part in fields(RecoveredRewards):
        own = [getattr(result, part.name) for result in results]
        if part.name == "verdict":
            known = {agent: found for one in own for agent, found in one.agents.items()}
            parts[part.name] = joined(known) if known else own[0]
            continue
        if part.name == "source":
            parts[part.name] = None if own[0] is None else replace(own[0], known_policies=())
            continue
        given = [mapping for mapping in own if mapping is not None]
        parts[part.name] = (
            {k: v for mapping in given for k, v in mapping.items()} if given else None
        )
    return RecoveredRewards(**parts)
