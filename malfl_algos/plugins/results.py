"""Check the results of plugins against the contract: stages of learners, rewards of observers.

The pipeline calls `learned_stages` and `recovered_rewards`. The conformance tests call the checks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from traceback import walk_tb
from typing import Any

import numpy as np

from malfl_algos.contract import (
    Diagnostics,
    LearnedStage,
    Learner,
    Observer,
    Problem,
    RecoveredRewards,
    Source,
    Stage,
    StageTruth,
)
from malfl_algos.plugins.interruption import pass_interruption
from malfl_algos.plugins.loading import Plugin, PluginFault
from malfl_algos.trace import LearningTrace, NextStateCounts, Transitions
from malfl_env.errors import InputError

__all__ = [
    "Breach",
    "blaming",
    "check_result",
    "check_stage",
    "learned_stages",
    "recovered_rewards",
]

_TRIED = 256  # steps at which a reward function is evaluated for the check

_GIVEN = (
    Stage,
    Transitions,
    NextStateCounts,
    StageTruth,
    LearnedStage,
    RecoveredRewards,
    Diagnostics,
)
"""Classes that plugins return; an `InputError` of their checks is an error of the plugin."""


class Breach(Exception):
    """A result that breaks the contract.

    Args:
        fault: the kind of error, in fixed words.
        detail: the value, and what is allowed.
    """

    def __init__(self, fault: str, detail: str) -> None:
        super().__init__(f"{fault}: {detail}")
        self.fault, self.detail = fault, detail


def learned_stages(
    learner: Learner,
    env: Any,
    *,
    n_stages: int,
    rng: np.random.Generator,
    by: str,
    agents: Sequence[str],
    shape: tuple[int, ...] | None = None,
) -> Iterator[LearnedStage]:
    """The stages of a learner, each checked by `check_stage`, and its actions by `contradiction`.

    Args:
        learner: the learner.
        env, n_stages, rng: as in `Learner.learn`.
        by: name of the plugin, for messages.
        agents: ids of the game's agents in their order.
        shape: `(n_states, *n_actions)` of a tabular game; None for any other game.

    Raises:
        PluginFault: naming the plugin, the stage and the error.
    """
    from malfl_algos.plugins.claims import contradiction

    number = -1
    stages: Any = learner.learn(env, n_stages=n_stages, rng=rng)
    if not isinstance(stages, Iterable):
        raise PluginFault(f"{by}: learn must yield stages, it returned {_shown(stages)}")
    for number, stage in enumerate(stages):
        if number == n_stages:
            break
        try:
            check_stage(stage, agents, shape)
            detail = contradiction(stage, agents)
            if detail is not None:
                raise Breach("counts contradict the policies", detail)
        except Breach as breach:
            raise PluginFault(f"{by}: stage {number}: {breach}") from breach
        yield stage
    if number + 1 != n_stages:
        found = f"more than {n_stages}" if number == n_stages else number + 1
        raise PluginFault(f"{by} yielded {found} stages, n_stages is {n_stages}")


def recovered_rewards(
    observer: Observer, problem: Problem, *, by: str, wanted: Sequence[str] | None = None
) -> RecoveredRewards:
    """The result of an observer, checked by `check_result`.

    Args:
        observer: the observer.
        problem: the arguments of `Observer.recover`.
        by: name of the plugin, for messages.
        wanted: agents whose rewards are required; None: all whose policies are not known.

    Raises:
        PluginFault: naming the plugin and the error.
    """
    result: Any = observer.recover(
        problem.trace,
        game=problem.game,
        discount=problem.discount,
        temperature=problem.temperature,
        known_policies=problem.known or None,
    )
    if wanted is None:
        wanted = [agent for agent in problem.trace.agents if agent not in problem.known]
    try:
        check_result(result, problem.trace, wanted)
    except Breach as breach:
        raise PluginFault(f"{by}: {breach}") from breach
    assert isinstance(result, RecoveredRewards)
    return result if result.source else replace(result, source=Source.of(problem, observer))


@contextmanager
def blaming(plugin: Plugin) -> Iterator[None]:
    """Add the name of a plugin to errors of its methods and of our checks of its results.

    Every exception that passes through `learned_stages` or `recovered_rewards` is the plugin's: the
    traceback shows it, wherever the code of the plugin is.

    Raises:
        InputError: if the plugin rejects its input.
        PluginFault: for any other exception in a method of the plugin, and for stages and results
            that break the contract; `KeyboardInterrupt` is passed on.
    """
    try:
        yield
    except BaseException as fault:
        pass_interruption(fault)
        passed = [frame for frame, _ in walk_tb(fault.__traceback__)]
        owners = [frame.f_locals.get("self") for frame in passed]
        if isinstance(fault, InputError) and (
            any(isinstance(owner, Problem) for owner in owners)  # arguments contradict each other
            or not any(isinstance(owner, _GIVEN) for owner in owners)
        ):
            raise InputError(f"{plugin.kind} {plugin.name!r}: {fault}") from fault
        explained = isinstance(fault, (InputError, PluginFault))
        entries = (learned_stages.__code__, recovered_rewards.__code__)
        if explained or any(frame.f_code in entries for frame in passed):
            text = str(fault) if explained else f"{type(fault).__name__}: {fault}"
            raise PluginFault(f"{plugin} failed: {text}") from fault
        raise


def check_stage(stage: Any, agents: Sequence[str], shape: tuple[int, ...] | None) -> None:
    """Check types, shapes and ranges of one stage of a learner.

    Args:
        stage: what the learner yielded.
        agents: ids of the game's agents in their order.
        shape: `(n_states, *n_actions)` of a tabular game; None for any other game.

    Raises:
        Breach: naming the first error.
    """
    if type(stage) is not LearnedStage or type(stage.truth) is not StageTruth:
        raise Breach(
            "not a LearnedStage",
            f"the learner yielded {_shown(stage)}, expected LearnedStage(Stage, StageTruth)",
        )
    observed = stage.observed
    for value, kinds in (
        (observed, (Stage,)),
        (getattr(observed, "next_state_counts", None), (NextStateCounts, type(None))),
        (getattr(observed, "transitions", None), (Transitions, type(None))),
    ):
        # an instance of a subclass could hold data that no observer may see
        if type(value) not in kinds:
            raise Breach(
                "not a plain Stage",
                f"expected exactly {kinds[0].__name__}, got {type(value).__name__}",
            )
    if observed.joint_counts is None:
        _check_steps(stage, agents, shape)
    elif shape is not None and observed.counts.shape != shape:
        detail = f"shape {observed.counts.shape}, expected {shape}"
        raise Breach("counts of another game", detail)
    rows = len(observed.counts) if observed.joint_counts is not None else observed.n_steps
    n_actions = (
        observed.counts.shape[1:] if observed.joint_counts is not None else shape and shape[1:]
    )
    _check_policies(stage.truth.policies, agents, rows, n_actions)


def _check_steps(stage: LearnedStage, agents: Sequence[str], shape: tuple[int, ...] | None) -> None:
    """Check a stage without counts: agents of its observations, and rewards of its steps."""
    steps = stage.observed.transitions
    assert steps is not None
    for name in ("observations", "next_observations"):
        if set(getattr(steps, name)) != set(agents):
            found = _shown(list(getattr(steps, name)))
            detail = f"{name} have the agents {found}, the game has {tuple(agents)}"
            raise Breach("observations of other agents", detail)
    for agent, rewards in (stage.truth.rewards or {}).items():
        if np.shape(rewards) != (steps.n_steps,) or not np.all(np.isfinite(rewards)):
            detail = f"{agent}: expected {steps.n_steps} finite numbers, got {_shown(rewards)}"
            raise Breach("rewards are not finite numbers per step", detail)


def _check_policies(
    policies: Any, agents: Sequence[str], rows: int, n_actions: tuple[int, ...] | None
) -> None:
    if not isinstance(policies, Mapping) or set(policies) != set(agents):
        detail = f"policies have {_shown(list(policies or ()))}, the game has {tuple(agents)}"
        raise Breach("policies of other agents", detail)
    for index, agent in enumerate(agents):
        policy = np.asarray(policies[agent])
        expected = (rows, *policy.shape[1:2]) if n_actions is None else (rows, n_actions[index])
        if policy.shape != expected or policy.ndim != 2 or policy.dtype.kind != "f":
            detail = f"{agent}: {policy.dtype} {policy.shape}, expected floats {expected}"
            raise Breach("policy of the wrong shape", detail)
        off = np.abs(policy.sum(axis=1) - 1)
        if not (np.all(policy >= 0) and np.all(off <= 1e-9)):
            worst = int(np.argmax(np.where(np.isfinite(off), off, np.inf)))
            if off[worst] <= 1e-9:
                worst = int(np.argmin(policy.min(axis=1)))
            detail = f"{agent} in row {worst}: {_shown(policy[worst].tolist())}"
            raise Breach("policy is not a distribution", detail)


def check_result(result: Any, trace: LearningTrace, wanted: Sequence[str]) -> None:
    """Check agents, shapes and ranges of a result, and that its diagnostics can be JSON.

    Args:
        result: what `recover` returned.
        trace: the trace that `recover` was given.
        wanted: agents whose rewards are required.

    Raises:
        Breach: naming the first error.
    """
    if not isinstance(result, RecoveredRewards):
        raise Breach("not a RecoveredRewards", f"recover returned {_shown(result)}")
    if not (result.source is None or type(result.source) is Source):
        raise Breach("not a Source", f"source is {_shown(result.source)}")
    _check_agents("rewards", result.rewards, trace)
    _check_functions(result, trace)
    missing = [agent for agent in wanted if agent not in result.agents]
    if missing:
        raise Breach("agent missing from rewards", f"no reward for {', '.join(missing)}")
    if trace.is_tabular:
        _check_tables(result, trace)
    elif result.rewards:
        raise Breach("wrong shape", "rewards are tables, but the trace is not tabular")
    try:
        json.dumps(result.diagnostics, default=_plain)
    except (TypeError, ValueError) as fault:
        raise Breach("diagnostics are not JSON", str(fault)) from fault
    _check_agents("diagnostics", result.diagnostics, trace)
    for agent, own in result.diagnostics.items():
        if not isinstance(own, Mapping):
            raise Breach("not a mapping", f"diagnostics[{agent!r}] is {_shown(own)}")


def _check_tables(result: RecoveredRewards, trace: LearningTrace) -> None:
    tables = ((trace.n_states,), (trace.n_states, *trace.n_actions))
    for agent, reward in result.rewards.items():
        _check_numbers(f"rewards[{agent!r}]", reward, tables)
    _check_spread(result, trace)
    for name, n_stages, tail in (
        ("estimated_policies", trace.n_stages, True),
        ("targets", trace.n_stages - 1, True),
        ("potentials", trace.n_stages - 1, False),
    ):
        for agent, array in _of_agents(result, name, trace):
            own = (trace.n_actions[trace.agents.index(agent)],) if tail else ()
            _check_numbers(f"{name}[{agent!r}]", array, ((n_stages, trace.n_states, *own),))
            if name == "estimated_policies" and not (
                np.all(array >= 0) and np.allclose(array.sum(axis=-1), 1, atol=1e-6)
            ):
                raise Breach("policy is not a distribution", f"estimated_policies of {agent}")


def _check_functions(result: RecoveredRewards, trace: LearningTrace) -> None:
    """Check that each reward function returns one finite number per step of the trace."""
    if result.functions is None:
        return
    _check_agents("functions", result.functions, trace)
    steps = trace.stages[-1].transitions
    for agent in result.functions:
        if steps is None or steps.observations is None:
            return
        some = steps.slice(0, _TRIED)
        assert some.observations is not None
        found = result.reward(agent, some.observations[agent], some.joint_actions)
        _check_numbers(f"reward({agent!r}, ...)", found, ((some.n_steps,),))


def _check_agents(name: str, value: Any, trace: LearningTrace) -> None:
    if not isinstance(value, Mapping):
        raise Breach("not keyed by agent", f"{name} is {_shown(value)}")
    strangers = [agent for agent in value if agent not in trace.agents]
    if strangers:
        detail = f"{name} has {_shown(strangers)}, the agents are {trace.agents}"
        raise Breach("reward of an unknown agent", detail)


def _of_agents(result: RecoveredRewards, name: str, trace: LearningTrace) -> list[tuple[str, Any]]:
    value = getattr(result, name)
    if value is None:
        return []
    _check_agents(name, value, trace)
    return list(value.items())


def _check_numbers(name: str, array: Any, shapes: tuple[tuple[int, ...], ...]) -> None:
    if not isinstance(array, np.ndarray) or array.shape not in shapes:
        found = f"shape {array.shape}" if isinstance(array, np.ndarray) else _shown(array)
        raise Breach("wrong shape", f"{name}: {found}, expected {' or '.join(map(str, shapes))}")
    if array.dtype.kind not in "iuf":
        raise Breach("not numbers", f"{name} has the type {array.dtype}")
    if not np.all(np.isfinite(array)):
        raise Breach("not finite", f"{name} has {int((~np.isfinite(array)).sum())} such values")


def _check_spread(result: RecoveredRewards, trace: LearningTrace) -> None:
    """Check posterior standard deviations and covariances."""
    for name in ("sd", "covariance"):
        for agent, array in _of_agents(result, name, trace):
            if agent not in result.rewards:
                detail = f"{name} has {agent}, rewards do not"
                raise Breach("agent missing from rewards", detail)
            shape = np.shape(result.rewards[agent])
            size = int(np.prod(shape))
            _check_numbers(f"{name}[{agent!r}]", array, (shape if name == "sd" else (size, size),))
            variances = array if name == "sd" else np.diag(array)
            if np.any(variances < 0):
                raise Breach("negative spread", f"{name}[{agent!r}] reaches {variances.min()}")
            if name == "covariance" and not np.allclose(array, array.T):
                raise Breach("covariance not symmetric", f"covariance[{agent!r}]")


def _plain(value: Any) -> Any:
    """NumPy numbers, arrays and mappings as types that JSON has."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{_shown(value)} of {type(value).__name__} is not JSON")


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 200 else f"{text[:200]}..."
