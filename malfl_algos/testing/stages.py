"""What must hold of one stage of a learner, by itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from malfl_algos.contract import LearnedStage
from malfl_algos.plugins.results import check_stage as check_contract
from malfl_algos.testing.dynamics import Dynamics
from malfl_algos.testing.subject import kept_contract
from malfl_algos.trace import LearningTrace, Stage, Transitions
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame
from malfl_env.testing.protocol import fail

__all__ = ["check_observed_stage", "check_stage", "counts_of_steps"]


def check_stage(stage: Any, game: MarkovGame, *, keep: bool | None, where: str) -> None:
    """Types, shapes, and whether counts, steps, policies and dynamics tell one story.

    How often what is possible was done is for `malfl_algos.testing.frequencies`.

    Args:
        stage: what the learner yielded, with counts.
        game: of the environment.
        keep: whether transitions were asked for; None: the learner cannot be asked.
        where: for messages.
    """
    shape = (game.n_states, *game.n_actions)
    with kept_contract(where):
        check_contract(stage, game.agents, shape)
    counts = stage.observed.counts
    if not counts.any():
        fail("empty stage", where, "joint_counts are all 0")
    policies = [np.asarray(stage.truth.policies[agent]) for agent in game.agents]
    dynamics = Dynamics.of(game)
    _check_visits(counts, policies, dynamics, where)
    _check_next_states(stage.observed, game, dynamics, where)
    steps = stage.observed.transitions
    if keep is not None and keep != (steps is not None):
        told = "none were kept" if keep else "transitions were kept"
        fail("keep_transitions not honoured", where, f"keep_transitions is {keep}, {told}")
    if steps is not None and steps.states is not None and steps.complete:
        _check_episodes(steps, game, where)


def check_observed_stage(stage: Any, env: Any, *, where: str) -> None:
    """A stage without counts: observations in the environment's spaces, steps that continue.

    Args:
        stage: what the learner yielded.
        env: a parallel environment of the same game.
        where: for messages.
    """
    agents = tuple(env.possible_agents)
    with kept_contract(where):
        check_contract(stage, agents, None)
    if stage.observed.joint_counts is not None:
        fail("counts of another game", where, "the environment has no tabular model to count in")
    n_actions = tuple(int(env.action_space(agent).n) for agent in agents)
    spaces = tuple(env.observation_space(agent) for agent in agents)
    try:
        LearningTrace((stage.observed,), agents, n_actions, spaces)
    except InputError as fault:
        raise AssertionError(f"steps are not of the environment: {fault} ({where})") from fault
    steps: Transitions = stage.observed.transitions
    goes_on = ~steps.episode_ends[:-1]
    for index, agent in enumerate(agents):
        assert steps.observations is not None
        assert steps.next_observations is not None
        before, after = steps.observations[agent], steps.next_observations[agent]
        if not np.array_equal(before[1:][goes_on], after[:-1][goes_on]):
            detail = (
                f"within an episode {agent} observes other things after a step and before the next"
            )
            fail("transitions do not follow one another", where, detail)
        policy = np.asarray(stage.truth.policies[agent])
        if policy.shape[1] != n_actions[index]:
            detail = f"{agent}: {policy.shape}, the agent has {n_actions[index]} actions"
            fail("policy of the wrong shape", where, detail)
        played = policy[np.arange(steps.n_steps), steps.joint_actions[:, index]]
        if np.any(played == 0):
            detail = f"at step {int(np.argmin(played))} {agent} did what its policy rules out"
            fail("counts contradict the policies", where, detail)


def counts_of_steps(stage: LearnedStage, index: int, agent: str) -> tuple[Any, Any]:
    """Steps with equal policies of one agent taken together: counts of its actions, policies."""
    steps = stage.observed.transitions
    assert steps is not None
    policies, row = np.unique(np.asarray(stage.truth.policies[agent]), axis=0, return_inverse=True)
    counts = np.zeros(policies.shape, dtype=np.int64)
    np.add.at(counts, (row.ravel(), steps.joint_actions[:, index]), 1)
    return counts, policies


def _check_visits(
    counts: np.ndarray, policies: list[np.ndarray], dynamics: Dynamics, where: str
) -> None:
    played = counts.reshape(len(counts), -1)
    impossible = (played > 0) & (dynamics.joint(policies) == 0)
    if impossible.any():
        state = int(np.argwhere(impossible)[0, 0])
        detail = f"in joint state {state} an action was played that its policy gives probability 0"
        fail("counts contradict the policies", where, detail)
    unreached = np.flatnonzero((played.sum(axis=1) > 0) & ~dynamics.reached(policies))
    if len(unreached):
        detail = f"joint state {unreached[0]} was visited, which these policies never lead to"
        fail("visits a joint state that cannot occur", where, detail)


def _check_next_states(observed: Stage, game: MarkovGame, dynamics: Dynamics, where: str) -> None:
    if observed.next_state_counts is None and not game.deterministic:
        detail = "the game is stochastic and next_state_counts is None"
        fail("no next-state counts", where, detail)
    for seen in filter(None, {observed.next_state_counts, observed.seen_next_states}):
        dynamics.require_possible(seen.rows, seen.next_states, where)


def _check_episodes(steps: Transitions, game: MarkovGame, where: str) -> None:
    """Each step goes on where the one before it ended, each episode from the start."""
    assert steps.states is not None
    assert steps.next_states is not None
    before = np.r_[True, steps.episode_ends[:-1]]
    expected = np.where(before, game.start, np.r_[game.start, steps.next_states[:-1]])
    broken = np.flatnonzero(steps.states != expected)
    if len(broken):
        step = int(broken[0])
        detail = (
            f"step {step} begins in joint state {steps.states[step]}, expected {expected[step]}"
        )
        fail("transitions do not follow one another", where, detail)
