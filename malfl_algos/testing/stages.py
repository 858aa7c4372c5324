"""What must hold of one stage of a learner, by itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from malfl_algos.contract import LearnedStage
from malfl_algos.testing.dynamics import Dynamics
from malfl_algos.trace import NextStateCounts, Stage, Transitions
from malfl_env.markov_game import MarkovGame
from malfl_env.testing.protocol import fail
from malfl_env.testing.values import shown

__all__ = ["check_stage"]


def check_stage(stage: Any, game: MarkovGame, *, keep: bool | None, where: str) -> None:
    """Types, shapes, and whether counts, steps, policies and dynamics tell one story.

    How often what is possible was done is for `malfl_algos.testing.frequencies`.

    Args:
        stage: what the learner yielded.
        game: of the environment.
        keep: whether transitions were asked for; None: the learner cannot be asked.
        where: for messages.
    """
    _check_types(stage, where)
    counts = stage.observed.counts
    expected = (game.n_states, *game.n_actions)
    if counts.shape != expected:
        fail("counts of another game", where, f"shape {counts.shape}, expected {expected}")
    if not counts.any():
        fail("empty stage", where, "joint_counts are all 0")
    _check_policies(stage.joint_policy, game, where)
    policies = [np.asarray(stage.joint_policy[agent]) for agent in game.agents]
    dynamics = Dynamics.of(game)
    _check_visits(counts, policies, dynamics, where)
    _check_next_states(stage.observed, game, dynamics, where)
    steps = stage.observed.transitions
    if keep is not None and keep != (steps is not None):
        told = "none were kept" if keep else "transitions were kept"
        fail("keep_transitions not honoured", where, f"keep_transitions is {keep}, {told}")
    if steps is not None and steps.states is not None:
        _check_steps(steps, counts, game, dynamics, where)


def _check_types(stage: Any, where: str) -> None:
    if type(stage) is not LearnedStage:
        fail("not a LearnedStage", where, f"the learner yielded {shown(stage)}")
    observed = stage.observed
    for value, kinds in (
        (observed, (Stage,)),
        (getattr(observed, "next_state_counts", None), (NextStateCounts, type(None))),
        (getattr(observed, "transitions", None), (Transitions, type(None))),
    ):
        # a class of the learner's own could carry what no observer may see
        if type(value) not in kinds:
            detail = f"expected exactly {kinds[0].__name__}, got {type(value).__name__}"
            fail("not a plain Stage", where, detail)


def _check_policies(joint_policy: Any, game: MarkovGame, where: str) -> None:
    if set(joint_policy) != set(game.agents):
        detail = f"joint_policy is of {shown(list(joint_policy))}, the agents are {game.agents}"
        fail("policies of other agents", where, detail)
    for agent, n_actions in zip(game.agents, game.n_actions, strict=True):
        policy = np.asarray(joint_policy[agent])
        if policy.shape != (game.n_states, n_actions) or policy.dtype.kind != "f":
            fail(
                "policy of the wrong shape",
                where,
                f"{agent}: {policy.dtype} {policy.shape}, expected floats "
                f"{(game.n_states, n_actions)}",
            )
        off = np.abs(policy.sum(axis=1) - 1)
        if not (np.all(policy >= 0) and np.all(off <= 1e-9)):
            worst = int(np.argmax(np.where(np.isfinite(off), off, np.inf)))
            detail = f"{agent} in joint state {worst}: {shown(policy[worst].tolist())}"
            fail("policy is not a distribution", where, detail)


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
    seen = observed.next_state_counts
    if seen is None:
        if not game.deterministic:
            detail = "the game is stochastic and next_state_counts is None"
            fail("no next-state counts", where, detail)
        return
    played = observed.counts.ravel()
    summed = np.zeros_like(played)
    np.add.at(summed, seen.rows, seen.counts)
    if np.any(summed != played):
        row = int(np.argmax(summed != played))
        detail = f"row {row}: {summed[row]} next states for {played[row]} plays"
        fail("next-state counts do not add up to joint_counts", where, detail)
    dynamics.require_possible(seen.rows, seen.next_states, where)


def _check_steps(
    steps: Transitions,
    counts: np.ndarray,
    game: MarkovGame,
    dynamics: Dynamics,
    where: str,
) -> None:
    assert steps.states is not None
    assert steps.next_states is not None
    if type(steps.complete) is not bool:
        fail("transitions malformed", where, f"complete must be a bool, got {steps.complete!r}")
    actions = np.asarray(steps.joint_actions)
    rows = np.ravel_multi_index(tuple(actions.T.astype(np.int64)), game.n_actions)
    rows = steps.states.astype(np.int64) * int(np.prod(game.n_actions)) + rows
    summed = np.bincount(rows, minlength=counts.size)
    excess = summed != counts.ravel() if steps.complete else summed > counts.ravel()
    if excess.any():
        row = int(np.argmax(excess))
        detail = f"row {row}: {summed[row]} steps for a count of {counts.ravel()[row]}"
        fail("transitions do not add up to joint_counts", where, detail)
    dynamics.require_possible(rows, steps.next_states, where)
    if steps.complete:
        _check_episodes(steps, game, where)


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
