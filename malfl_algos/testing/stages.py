"""Check the stages of a learner: each by itself, and the frequencies of actions in all of them.

Frequencies are tested with e-values: ratios of the likelihood of the counts under another policy,
or a mixture of policies, to the likelihood under the claimed policy. If the claim holds, the
expectation of such a ratio is at most 1 for every sample size and stopping rule, so the ratio
exceeds 1 / p with a probability of at most p (Ville's inequality). The same holds for the mean of
several ratios. No approximation for rare actions is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp, xlogy

from malfl_algos.contract import LearnedStage
from malfl_algos.plugins.results import check_stage as check_contract
from malfl_algos.testing.subject import kept_contract
from malfl_algos.trace import LearningTrace, Stage, Transitions
from malfl_env.errors import InputError
from malfl_env.markov_game import MarkovGame
from malfl_env.testing.protocol import fail

__all__ = [
    "FALSE_ALARM",
    "check_frequencies",
    "check_observed_stage",
    "check_own_frequencies",
    "check_stage",
    "counts_of_steps",
    "log_e_values",
]

FloatArray = NDArray[np.float64]
Policies = Sequence[NDArray[Any]]

FALSE_ALARM = 1e-9
"""Upper bound on the probability that one test rejects a stage of a correct learner."""

_CONCENTRATIONS = (1.0, 10.0, 100.0, 1000.0)
_TILTS = (-1.0, -0.3, -0.1, 0.1, 0.3, 1.0)


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


def counts_of_steps(stage: LearnedStage, index: int, agent: str) -> tuple[Any, Any]:
    """Counts of one agent's actions over steps with equal policies, and these policies."""
    steps = stage.observed.transitions
    assert steps is not None
    policies, row = np.unique(np.asarray(stage.truth.policies[agent]), axis=0, return_inverse=True)
    counts = np.zeros(policies.shape, dtype=np.int64)
    np.add.at(counts, (row.ravel(), steps.joint_actions[:, index]), 1)
    return counts, policies


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


def log_e_values(counts: NDArray[Any], probabilities: NDArray[Any]) -> dict[str, FloatArray]:
    """Logarithms of e-values against a claimed policy, by the kind of difference that they test.

    Args:
        counts: whole numbers >= 0, `(n_rows, n_actions)`.
        probabilities: the claimed policy; rows sum to 1, positive where counts are positive.

    Returns:
        "row": one per row and Dirichlet mixture around the claimed policy, from wide to narrow;
        "all rows": their sums over rows; "one action": one per action and tilt, over all rows.
    """
    totals = counts.sum(axis=1)
    claimed = xlogy(counts, probabilities).sum(axis=1)
    rows = []
    for concentration in _CONCENTRATIONS:
        prior = concentration * probabilities * counts.shape[1]
        weight = prior.sum(axis=1)
        with np.errstate(invalid="ignore"):  # actions of probability 0 that were not played
            gained = np.where(counts > 0, gammaln(counts + prior) - gammaln(prior), 0.0)
        rows.append(gammaln(weight) - gammaln(weight + totals) + gained.sum(axis=1) - claimed)
    tilted = [
        tilt * counts.sum(axis=0) - totals @ np.log1p(probabilities * np.expm1(tilt))
        for tilt in _TILTS
    ]
    return {
        "row": np.concatenate(rows),
        "all rows": np.array([row.sum() for row in rows]),
        "one action": np.concatenate(tilted),
    }


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
            ratio = _log_ratio(own, policies[other], policies[number])
            if ratio > limit and _evidence(own, policies[other])[0] <= limit:
                detail = (
                    f"it was played under the policies claimed for stage {other} "
                    f"(likelihood ratio e^{ratio:.0f})"
                )
                fail("counts contradict the policies", where[number], detail)
    for number, own in enumerate(counts):
        evidence, what = _evidence(own, policies[number])
        if evidence > limit:
            detail = f"{what} are not draws from the policies claimed (evidence e^{evidence:.0f})"
            fail("counts contradict the policies", where[number], detail)


def check_own_frequencies(
    agent: str, counts: NDArray[Any], policies: NDArray[Any], where: str
) -> None:
    """Check that one agent's actions follow the claimed policies.

    Args:
        agent: its id.
        counts: of its actions, `(n_rows, n_actions)`; actions of probability 0 have count 0.
        policies: claimed policies, `(n_rows, n_actions)`.
        where: game, seed and stage, for messages.
    """
    values = np.concatenate(list(log_e_values(counts, policies).values()))
    evidence = float(logsumexp(values) - np.log(len(values)))
    if evidence > -np.log(FALSE_ALARM):
        detail = f"the actions of {agent} are not draws from the policies claimed"
        fail("counts contradict the policies", where, f"{detail} (evidence e^{evidence:.0f})")


def _evidence(joint_counts: NDArray[Any], policies: Policies) -> tuple[float, str]:
    """Logarithm of the mean of all e-values, and the actions with the highest e-value."""
    n_states = len(joint_counts)
    joint = np.ones((n_states, 1))
    claims: dict[str, FloatArray] = {}
    for index, policy in enumerate(policies):
        values = log_e_values(_own(joint_counts, index), policy)
        claims[f"the actions of agent_{index}"] = np.concatenate(list(values.values()))
        joint = (joint[:, :, None] * policy[:, None, :]).reshape(n_states, -1)
    values = log_e_values(joint_counts.reshape(n_states, -1), joint)
    claims["the joint actions"] = np.concatenate(list(values.values()))
    everything = np.concatenate(list(claims.values()))
    mean = float(logsumexp(everything) - np.log(len(everything)))
    return mean, max(claims, key=lambda name: float(claims[name].max()))


def _log_ratio(joint_counts: NDArray[Any], one: Policies, other: Policies) -> float:
    """Log likelihood of the counts under one joint policy minus that under another."""
    ratio = 0.0
    for index, (rival, own) in enumerate(zip(one, other, strict=True)):
        played = _own(joint_counts, index)
        ratio += float((xlogy(played, rival) - xlogy(played, own)).sum())
    return ratio


def _own(joint_counts: NDArray[Any], index: int) -> NDArray[Any]:
    """Counts of one agent's actions, `(n_states, n_actions)`."""
    others = tuple(axis for axis in range(1, joint_counts.ndim) if axis != index + 1)
    return np.asarray(joint_counts.sum(axis=others))


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
