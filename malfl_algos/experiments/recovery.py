"""One observer on one trace, from either seat: its result checked, scored and written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from malfl_algos.contract import Observer, RecoveredRewards
from malfl_algos.scores.inputs import Reference, ScoringInputs
from malfl_algos.scores.registry import score_agent, score_names
from malfl_algos.storage.arrays import write_arrays
from malfl_algos.storage.durable import write_json
from malfl_algos.trace import LearningTrace
from malfl_env import MarkovGame
from malfl_env.errors import InputError

__all__ = ["Problem", "Recovered", "recover", "score_rows", "trend_rows", "write_recovered"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Recovered = Mapping[str, RecoveredRewards]
"""By observing agent id; "" stands for an observer outside, and for both of two agents."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What an observer is given.

    Args:
        game: stripped of its rewards; None: the observer estimates it.
        discount, temperature: the learners'.
        seat: "external", or "agent": each agent in turn observes the others and knows its own
            policies.
        policies: per agent id, true policies `(n_stages, n_states, n_actions)`; used in the seat
            "agent" alone.
    """

    game: MarkovGame | None
    discount: float
    temperature: float
    seat: Literal["external", "agent"] = "external"
    policies: Mapping[str, FloatArray] | None = None


def recover(observer: Observer, trace: LearningTrace, problem: Problem) -> Recovered:
    """Recover rewards from a trace.

    Returns:
        Seat "external": one result for all agents. Seat "agent": for two agents one result, keyed
        by the observed agent; for more, one result per observing agent, of all the others.

    Raises:
        InputError: from the observer, or where what it returns is not of the game.
    """
    if problem.seat == "external":
        return {"": _checked(observer, trace, problem, {}, trace.agents)}
    by_observing = {}
    for agent in trace.agents:
        assert problem.policies is not None
        known = {agent: problem.policies[agent][: trace.n_stages]}
        others = tuple(other for other in trace.agents if other != agent)
        by_observing[agent] = _of_agents(_checked(observer, trace, problem, known, others), others)
    if trace.n_agents > 2:
        return by_observing
    return {"": _joined(by_observing)}


def score_rows(
    recovered: Mapping[str, Mapping[str, FloatArray]],
    truth: Mapping[str, FloatArray],
    states: BoolArray | None,
) -> Iterator[dict[str, Any]]:
    """Rows `agent`, the scores that need nothing but the ground-truth reward, `reason` of the first
    that is None, and `observing` where there is one.

    Args:
        recovered: by observing agent ("" for none), per agent id the reward.
        truth: per agent id the true reward.
        states: bool `(n_states,)`: the joint states that count; None: all.
    """
    for observing, rewards in recovered.items():
        inputs = ScoringInputs(rewards, Reference(truth, states))
        for agent in (agent for agent in truth if agent in rewards):
            row = {"agent": agent, **score_agent(inputs, agent, score_names("ground_truth"))}
            row["reason"] = next(iter(row.pop("reasons").values()), None)
            yield {"observing": observing, **row} if observing else row


def trend_rows(
    observer: Observer,
    trace: LearningTrace,
    problem: Problem,
    truth: Mapping[str, FloatArray],
    states: BoolArray,
) -> list[dict[str, Any]]:
    """Scores of what is recovered from the first 2, 3, ... stages: `score_rows` with `n_stages`.

    The whole trace is not among them.

    Lengths that the observer refuses as too short have no value, with its words as the reason.
    """
    rows: list[dict[str, Any]] = []
    for n_stages in range(2, trace.n_stages):
        try:
            recovered = recover(observer, trace.first(n_stages), problem)
        except ValueError as fault:
            refused = {**dict.fromkeys(score_names("ground_truth")), "reason": str(fault)}
            rows += [{"n_stages": n_stages, "agent": agent, **refused} for agent in trace.agents]
            continue
        rewards = {observing: result.rewards for observing, result in recovered.items()}
        rows += [{"n_stages": n_stages, **row} for row in score_rows(rewards, truth, states)]
    return rows


def write_recovered(recovered: Recovered, folder: Path) -> None:
    """Write `rewards.npz`, `diagnostics.json` and what else the method has.

    More than one result: one folder per observing agent.
    """
    for observing, result in recovered.items():
        place = folder / observing
        rewards = {agent: np.asarray(r, dtype=np.float64) for agent, r in result.rewards.items()}
        write_arrays(place / "rewards.npz", rewards)
        write_json(place / "diagnostics.json", _plain(result.diagnostics))
        for name in ("estimated_policies", "targets", "potentials"):
            arrays = getattr(result, name)
            if arrays is not None:
                write_arrays(place / f"{name}.npz", arrays)
        posterior = {f"{agent}_sd": array for agent, array in (result.sd or {}).items()}
        posterior |= {f"{a}_covariance": array for a, array in (result.covariance or {}).items()}
        if posterior:
            write_arrays(place / "posterior.npz", posterior)


def _checked(
    observer: Observer,
    trace: LearningTrace,
    problem: Problem,
    known_policies: Mapping[str, FloatArray],
    agents: tuple[str, ...],
) -> RecoveredRewards:
    result = observer.recover(
        trace,
        game=problem.game,
        discount=problem.discount,
        temperature=problem.temperature,
        known_policies=known_policies or None,
    )
    given = result.rewards
    missing, unknown = set(agents) - set(given), set(given) - set(trace.agents)
    if missing or unknown:
        raise InputError(
            f"the observer must return a reward for each of {', '.join(agents)} and for nobody "
            f"else in the game, it returned {', '.join(given) or 'none'}"
        )
    allowed = ((trace.n_states,), (trace.n_states, *trace.n_actions))
    for agent, reward in given.items():
        table = np.asarray(reward)
        if table.shape not in allowed or table.dtype.kind not in "iuf":
            raise InputError(
                f"the observer returned {table.dtype} {table.shape} as the reward of {agent}, "
                f"expected numbers of shape {allowed[0]} or {allowed[1]}"
            )
    told = {agent: result.diagnostics.get(agent, {}) for agent in given}
    if not all(isinstance(of_agent, Mapping) for of_agent in told.values()):
        return result
    # scoring has to know which stages are new to these rewards
    noted = {agent: {**of_agent, "n_stages": trace.n_stages} for agent, of_agent in told.items()}
    return replace(result, diagnostics={**result.diagnostics, **noted})


def _of_agents(result: RecoveredRewards, agents: tuple[str, ...]) -> RecoveredRewards:
    """The parts of a result that are about some agents."""
    parts: dict[str, Any] = {}
    for part in fields(RecoveredRewards):
        whole = getattr(result, part.name)
        kept = {agent: whole[agent] for agent in agents if agent in whole} if whole else whole
        parts[part.name] = kept
    return RecoveredRewards(**parts)


def _joined(by_observing: Recovered) -> RecoveredRewards:
    """One result of two, each about the agent that the other observes, agents in order."""
    results = list(by_observing.values())[::-1]
    parts: dict[str, Any] = {}
    for part in fields(RecoveredRewards):
        own = [getattr(result, part.name) for result in results]
        given = [mapping for mapping in own if mapping is not None]
        parts[part.name] = (
            {k: v for mapping in given for k, v in mapping.items()} if given else None
        )
    return RecoveredRewards(**parts)


def _plain(value: Any) -> Any:
    """The value in what JSON holds; numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
