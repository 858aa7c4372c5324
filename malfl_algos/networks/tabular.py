"""A tabular game as the network observer sees it: observations of its joint states, and back."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from gymnasium.spaces import Discrete
from numpy.typing import NDArray

from malfl_algos.networks.ensemble import Fitted
from malfl_algos.networks.gathering import Gathered
from malfl_algos.networks.recovered_functions import centred, total_deviation
from malfl_algos.observation_trace import ObservationTrace, from_learning_trace
from malfl_algos.trace import LearningTrace, Transitions
from malfl_env.checks import check_table_bytes
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame

__all__ = ["checksum", "known_tables", "observed", "on_all_states", "policy_table"]

FloatArray = NDArray[np.float64]


def observed(trace: LearningTrace, game: MarkovGame | None) -> ObservationTrace:
    """The trace as observations; without a game the joint state's number is what is observed."""
    if game is not None:
        return from_learning_trace(trace, game)
    space = Discrete(trace.n_states)
    stages = []
    for index, stage in enumerate(trace.stages):
        steps = stage.transitions
        if steps is None or steps.states is None or steps.next_states is None:
            raise InputError(
                f"stage {index} of the trace has no transitions in their order: let the learner "
                "keep them (keep_transitions: true)"
            )
        stages.append(
            Transitions(
                states=steps.states,
                joint_actions=steps.joint_actions,
                next_states=steps.next_states,
                episode_ends=steps.episode_ends,
                complete=steps.complete,
                observations=dict.fromkeys(trace.agents, np.asarray(steps.states)),
                next_observations=dict.fromkeys(trace.agents, np.asarray(steps.next_states)),
                terminations=steps.terminations,
            )
        )
    return ObservationTrace(tuple(stages), trace.agents, trace.n_actions, (space,) * trace.n_agents)


def known_tables(
    trace: ObservationTrace, view: Gathered, known: Mapping[str, FloatArray]
) -> dict[int, FloatArray]:
    """Known policies at the distinct observations, which all agents share in a tabular game."""
    if not known:
        return {}
    state = np.zeros(len(view.inputs), dtype=np.int64)
    for steps, stage in zip(trace.stages, view.stages, strict=True):
        state[stage.after[stage.which]] = np.asarray(steps.next_states)
        state[stage.here[stage.which]] = np.asarray(steps.states)
    return {trace.agents.index(a): np.asarray(p)[:, state] for a, p in known.items()}


def on_all_states(
    fitted: Fitted, inputs: NDArray[np.float32], n_actions: tuple[int, ...]
) -> tuple[FloatArray, FloatArray]:
    """Reward and deviation of all joint states, and joint actions where it depends on them."""
    members = fitted.members
    sizes = () if members[0].features.model == "state" else n_actions
    shape = (len(inputs), *sizes)
    check_table_bytes(
        8 * prod(shape) * sum(len(one.mean) for one in members),
        f"the features of {prod(shape)} reward values",
    )
    numbers = np.indices(shape).reshape(len(shape), -1)
    actions = np.zeros((prod(shape), len(n_actions)), dtype=np.int64)
    actions[:, : len(sizes)] = numbers[1:].T
    phis = [one.features(inputs[numbers[0]], actions) for one in members]
    mean, within, between = centred(members, phis, [phi.mean(axis=0) for phi in phis])
    sd = total_deviation(within, between, len(mean))
    return mean.reshape(shape), sd.reshape(shape)


def policy_table(fitted: Fitted, inputs: NDArray[np.float32], index: int) -> FloatArray:
    """Estimated policies of an agent `(n_stages, n_states, n_actions)`."""
    policies = fitted.policies
    return np.stack(
        [np.exp(policies.log_policies(inputs, h)[index]) for h in range(policies.n_stages)]
    )


def checksum(views: Sequence[Gathered]) -> int:
    """A number that tells one trace from another."""
    found = 0
    for view in views:
        arrays: list[NDArray[Any]] = [view.inputs]
        for steps in view.stages:
            arrays += [steps.here, steps.after, steps.joint_actions, steps.goes_on]
            arrays += [steps.which, steps.block]
        for array in arrays if view.view == view.agent_index else []:
            found = zlib.crc32(np.ascontiguousarray(array).tobytes(), found)
    return found
