"""Check the stages of a learner: each by itself, and the frequencies of actions in all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malfl_algos.plugins.claims import FALSE_ALARM, evidence_against, log_ratio
from malfl_algos.plugins.results import check_stage as check_contract
from malfl_algos.testing.subject import kept_contract
from malfl_algos.trace import LearningTrace, Stage, Transitions
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame
from malfl_env.testing.protocol import fail

__all__ = [
    "check_frequencies",
    "check_observed_stage",
    "check_stage",
]

FloatArray = NDArray[np.float64]
Policies = Sequence[NDArray[Any]]


def check_stage(stage: Any, game: MarkovGame, *, keep: bool | None, where: str) -> None:
    """Check types and shapes, and that counts, steps, policies and dynamics agree.

    Args:
        stage: a stage with counts, as the learner yielded it.
        game: tabular model of the environment.
        keep: whether transitions were requested; None: the learner has no such option.
        where: game, seed and stage, for messages.
    """
    shape = (game.n_states, *game.n_actions)
    with kept_contract(where):
        check_contract(stage, game.agents, shape)
    counts = stage.observed.counts
    if not counts.any():
        fail("empty stage", where, "joint_counts are all 0")
    policies = [np.asarray(stage.truth.policies[agent]) for agent in game.agents]
    dynamics = _Dynamics.of(game)
    _check_visits(counts, policies, dynamics, where)
    _check_next_states(stage.observed, game, dynamics, where)
    steps = stage.observed.transitions
    if keep is not None and keep != (steps is not None):
        found = "no transitions were kept" if keep else "transitions were kept"
        fail("keep_transitions not honoured", where, f"keep_transitions is {keep}, {found}")
    if steps is not None and steps.states is not None and steps.complete:
        _check_episodes(steps, game, where)


def check_observed_stage(stage: Any, env: Any, *, where: str) -> None:
    """Check a stage without counts: observations are in their spaces, steps continue.

    Args:
        stage: a stage as the learner yielded it.
        env: a parallel environment of the same game.
        where: game, seed and stage, for messages.
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
                f"within an episode, the next observation of {agent} is not that of the next step"
            )
            fail("transitions do not follow one another", where, detail)
        policy = np.asarray(stage.truth.policies[agent])
        if policy.shape[1] != n_actions[index]:
            detail = f"{agent}: {policy.shape}, the agent has {n_actions[index]} actions"
            fail("policy of the wrong shape", where, detail)
        played = policy[np.arange(steps.n_steps), steps.joint_actions[:, index]]
        if np.any(played == 0):
            detail = f"step {int(np.argmin(played))}: {agent} played an action of probability 0"
            fail("counts contradict the policies", where, detail)


def check_frequencies(
    counts: Sequence[NDArray[Any]], policies: Sequence[Policies], where: Sequence[str]
) -> None:
    """Check that all agents' actions follow their policies, drawn independently.

    Args:
        counts: joint counts of every stage; actions of probability 0 have count 0.
        policies: claimed policies of every stage, per agent in order `(n_states, n_actions)`.
        where: game, seed and number of every stage, for messages.

    Raises:
        AssertionError: for counts that contradict the policies, or that fit the policies of the
            previous or next stage better.
    """
    limit = -np.log(FALSE_ALARM)
    for number, own in enumerate(counts):
        for other in {number - 1, number + 1} & set(range(len(counts))):
            ratio = log_ratio(own, policies[other], policies[number])
            if ratio > limit and evidence_against(own, policies[other])[0] <= limit:
                detail = (
                    f"it was played under the policies claimed for stage {other} "
                    f"(likelihood ratio e^{ratio:.0f})"
                )
                fail("counts contradict the policies", where[number], detail)
    for number, own in enumerate(counts):
        evidence, what = evidence_against(own, policies[number])
        if evidence > limit:
            detail = f"{what} are not draws from the policies claimed (evidence e^{evidence:.0f})"
            fail("counts contradict the policies", where[number], detail)


def _check_visits(
    counts: np.ndarray, policies: list[np.ndarray], dynamics: _Dynamics, where: str
) -> None:
    played = counts.reshape(len(counts), -1)
    impossible = (played > 0) & (dynamics.joint(policies) == 0)
    if impossible.any():
        state = int(np.argwhere(impossible)[0, 0])
        detail = f"in joint state {state} an action of probability 0 was played"
        fail("counts contradict the policies", where, detail)
    unreached = np.flatnonzero((played.sum(axis=1) > 0) & ~dynamics.reached(policies))
    if len(unreached):
        detail = f"joint state {unreached[0]} was visited, but these policies cannot reach it"
        fail("visits a joint state that cannot occur", where, detail)


def _check_next_states(observed: Stage, game: MarkovGame, dynamics: _Dynamics, where: str) -> None:
    if observed.next_state_counts is None and not game.deterministic:
        detail = "the game is stochastic and next_state_counts is None"
        fail("no next-state counts", where, detail)
    for seen in filter(None, {observed.next_state_counts, observed.seen_next_states}):
        dynamics.require_possible(seen.rows, seen.next_states, where)


def _check_episodes(steps: Transitions, game: MarkovGame, where: str) -> None:
    """Each step begins where the previous one ended, each episode at the start."""
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


@dataclass(frozen=True, eq=False)
class _Dynamics:
    """A game's transitions as one table.

    Args:
        start: joint state in which episodes begin.
        successors: int `(n_states, n_joint_actions, n_successors)`.
        possible: bool, same shape: whether the probability is positive.
    """

    start: int
    successors: NDArray[np.int64]
    possible: NDArray[np.bool_]

    @classmethod
    def of(cls, game: MarkovGame) -> _Dynamics:
        """The dynamics of a game; raises `InputError` if their table would be too large."""
        successors, probabilities = game.joint_successors()
        shape = (game.n_states, int(np.prod(game.n_actions)), -1)
        return cls(
            game.start,
            successors.reshape(shape),
            np.broadcast_to(probabilities, successors.shape).reshape(shape) > 0,
        )

    def joint(self, policies: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
        """Probabilities of joint actions, `(n_states, n_joint_actions)`."""
        n_states = len(self.successors)
        product = np.ones((n_states, 1))
        for policy in policies:
            product = (product[:, :, None] * policy[:, None, :]).reshape(n_states, -1)
        return product

    def reached(self, policies: Sequence[NDArray[Any]]) -> NDArray[np.bool_]:
        """Joint states that these policies can reach, bool `(n_states,)`."""
        leads = (self.joint(policies) > 0)[:, :, None] & self.possible
        reached = np.zeros(len(self.successors), dtype=bool)
        frontier = np.array([self.start])
        while len(frontier):
            reached[frontier] = True
            following = np.unique(self.successors[frontier][leads[frontier]])
            frontier = following[~reached[following]]
        return reached

    def require_possible(self, rows: NDArray[Any], next_states: NDArray[Any], where: str) -> None:
        """Check that each (joint state, joint action) can lead to its next state."""
        n_successors = self.successors.shape[2]
        successors = self.successors.reshape(-1, n_successors)[rows]
        allowed = self.possible.reshape(-1, n_successors)[rows]
        fits = ((successors == np.asarray(next_states)[:, None]) & allowed).any(axis=1)
        if not fits.all():
            first = int(np.argmin(fits))
            state, action = divmod(int(rows[first]), self.successors.shape[1])
            detail = (
                f"joint action {action} in joint state {state} cannot lead to "
                f"{int(next_states[first])}"
            )
            fail("impossible next state", where, detail)
