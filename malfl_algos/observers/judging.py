"""The verdict on the result of any observer: from trace and result to arrays, to a verdict.

The result of `ma-lfl-bellman` or `ma-lfl-replay` is judged under the rule, noise and prior that it
was recovered with. For any other observer `ma-lfl-bellman` recovers the rewards anew, with all
settings chosen by evidence; the given reward is then compared with that posterior. `logel` with
`fit: history` is judged by its own model, which says more than counts of stages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from math import prod
from typing import Any, ClassVar
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from malfl_algos.contract import Observer, Problem, RecoveredRewards
from malfl_algos.ma_lfl.carried_rules import choice_of
from malfl_algos.ma_lfl.low_rank_fit import Interpolation, interpolation_from
from malfl_algos.ma_lfl.reward_models import count_unknowns, in_joint_order
from malfl_algos.ma_lfl.reward_priors import RewardPrior
from malfl_algos.ma_lfl.settings import GRADIENT, Gradient
from malfl_algos.ma_lfl.stages import StageArrays
from malfl_algos.observers.bayesian import MaLflBellman
from malfl_algos.observers.bayesian_base import BayesianObserver
from malfl_algos.observers.bayesian_priors import smooth_prior_of
from malfl_algos.observers.judged_advice import NOT_TRIED, other_rule, unvisited
from malfl_algos.observers.judged_agent import NEEDS_IMPROVEMENTS, numbers_of
from malfl_algos.observers.judged_gradient import numbers_of_gradient
from malfl_algos.observers.judged_history import numbers_of_history
from malfl_algos.observers.judged_rows import AgentFit
from malfl_algos.observers.judged_trace import (
    numbers_of_trace,
    policy_change_of,
    policy_misfit_of,
)
from malfl_algos.observers.logel import Logel
from malfl_algos.observers.reading import dynamics_of, stage_arrays
from malfl_algos.observers.state_coordinates import seen_states
from malfl_algos.trace import LearningTrace
from malfl_algos.verdict import Verdict
from malfl_algos.verdict.balance import reachable_states
from malfl_algos.verdict.deciding import HISTORY_CHECKS, RULE, contradicted, decide, not_measured
from malfl_algos.verdict.moved import judge_moves
from malfl_algos.verdict.words import joined
from malfl_algos.work.threads import one_blas_thread
from malfl_env.arguments import typed
from malfl_env.errors import Contradiction, InputError
from malfl_env.markov_game import MarkovGame

__all__ = ["judge"]

FloatArray = NDArray[np.float64]

PASSES = 4
"""Iterations of a recovery that is made for a verdict only."""
MOST_BYTES = 2**31
"""Largest size of the coefficients of one agent."""
MOST_UNKNOWNS = 1000
"""Largest number of unknowns, unless the observer itself solved for more of them."""


@typed
def judge(
    result: RecoveredRewards,
    trace: LearningTrace,
    *,
    game: MarkovGame | None,
    discount: float | None,
    temperature: float | None,
    known_policies: Mapping[str, FloatArray] | None = None,
    observer: Observer | None = None,
    brief: bool = False,
) -> Verdict:
    """Whether to believe recovered rewards; no ground truth is used.

    Args:
        result: of any observer, from this trace.
        trace, game, discount, temperature, known_policies: what the observer was given.
        observer: the observer, if it is at hand; it is needed to judge `features`.
        brief: whether a recovery that is made for the verdict tries the rules td and exact only,
            which takes a fraction of the time. Runs and sweeps do so.

    Returns:
        One verdict; its `agents` hold one for each agent.

    Raises:
        InputError: for arguments out of range. A trace that its game excludes is no error here: it
            is the verdict `do not believe`.
    """
    try:
        problem = Problem(trace, game, discount, temperature, known_policies)
    except Contradiction as found:
        return contradicted(str(found))
    if not trace.is_tabular:
        if all("agreement" in result.diagnostics.get(agent, {}) for agent in trace.agents):
            own = {agent: judge_moves(result.diagnostics[agent]) for agent in trace.agents}
            return joined(own)
        return not_measured(
            "explained",
            "the trace holds observations and no counts of joint states",
            "number the joint states, so that the trace holds counts",
        )
    with one_blas_thread():
        if isinstance(observer, Logel) and observer.fit == "history":
            return _of_histories(result, observer, problem)
        try:
            basis = _basis(result, observer, problem, brief=brief)
        except InputError as fault:
            return not_measured("explained", str(fault))
        shared = numbers_of_trace(problem)
        verdicts = {
            agent: _of_numbers(result, basis, index, shared, observer)
            for index, agent in enumerate(trace.agents)
            if agent in result.rewards
        }
    if not verdicts:
        return not_measured("explained", "the result holds no table of rewards")
    return joined(verdicts)


@dataclass(frozen=True, eq=False)
class _Basis:
    """The fit under which rewards are judged.

    Args:
        observer: of the fit.
        result: of the fit; the judged result itself if it is one of ours.
        own: whether it is.
        problem: the arguments of both.
        game: the dynamics, given or estimated.
        stages: arrays of the trace.
        policies: estimated policies of every agent.
        alpha: the temperature.
    """

    observer: BayesianObserver
    result: RecoveredRewards
    own: bool
    problem: Problem
    game: MarkovGame | None
    stages: Sequence[StageArrays]
    policies: Sequence[FloatArray]
    alpha: float
    features: Sequence[FloatArray | None]

    def settings(self, index: int) -> dict[str, Any]:
        """What the fit chose for one agent, for its learner model."""
        chosen = dict(self.result.diagnostics[self.problem.trace.agents[index]])
        base, _ = self.observer._unknowns(self.problem.trace)
        return {**chosen, "reward_model": base, "temperature": self.alpha}

    def smooth_prior(self, index: int) -> RewardPrior | None:
        """The smooth prior of one agent; None if the fit chose none."""
        chosen = self.settings(index).get("prior") or {}
        if chosen.get("kind") != "smooth":
            return None
        low_rank = _interpolation(self.problem, self.result, index)
        if low_rank is not None:
            return low_rank.prior
        return smooth_prior_of(self.observer, self.problem.trace, self.problem.game, index)


def _basis(
    result: RecoveredRewards, observer: Observer | None, problem: Problem, *, brief: bool
) -> _Basis:
    trace, temperature = problem.trace, problem.temperature
    alpha = 1.0 if temperature is None else temperature
    own = isinstance(observer, BayesianObserver) and _is_ours(result, trace)
    if own:
        assert isinstance(observer, BayesianObserver)
        made = observer
        _check_unknowns(made, result, trace)
    else:
        _check_unknowns(MaLflBellman(), None, trace)
        step_size = _step_size(result, trace)
        made, result = _recovered_anew(problem, alpha, brief=brief, step_size=step_size)
    maps = list(made._unknowns(trace)[1])
    for index in range(trace.n_agents):
        low_rank = _interpolation(problem, result, index)
        maps[index] = maps[index] if low_rank is None else low_rank.weights
    game = dynamics_of(trace, problem.game)[0] if made.needs_game else problem.game
    policies = [
        problem.known[agent] if agent in problem.known else (result.estimated_policies or {})[agent]
        for agent in trace.agents
    ]
    return _Basis(made, result, own, problem, game, stage_arrays(trace), policies, alpha, maps)


def _interpolation(problem: Problem, result: RecoveredRewards, index: int) -> Interpolation | None:
    """How a result of low rank interpolates an agent's rewards; None: it does not."""
    own = result.diagnostics[problem.trace.agents[index]]
    said = own.get("prior") or {}
    seen = seen_states(problem.trace, problem.game)
    if own.get("solver") != "low-rank" or "states" not in said or seen is None:
        return None
    settings, states = np.array(said["interpolated_with"]), np.array(said["states"])
    return interpolation_from(seen, index, settings, states)


def _check_unknowns(
    observer: BayesianObserver, result: RecoveredRewards | None, trace: LearningTrace
) -> None:
    """Reject a game on which a verdict would take far longer than the recovery."""
    base, maps = observer._unknowns(trace)
    of_states = count_unknowns(base, trace.n_states, trace.n_actions)
    width = of_states if maps[0] is None else maps[0].shape[1]
    if result is not None:
        said = result.diagnostics[trace.agents[0]].get("prior") or {}
        width = len(said.get("states", range(width)))
    n_bytes = 8 * trace.n_stages * trace.n_states * max(trace.n_actions) * width
    dense = result is not None and result.diagnostics[trace.agents[0]].get("solver") == "dense"
    if n_bytes > MOST_BYTES or (width > MOST_UNKNOWNS and not dense):
        raise InputError(
            f"a matrix of {width} reward unknowns is needed, {n_bytes / 2**30:.1f} GiB; with fewer "
            "features (reward_model features), a verdict is possible"
        )


_LATEST: list[tuple[tuple[Any, ...], RecoveredRewards]] = []
"""The latest recovery of `_recovered_anew`; the observers of one cell are judged one by one."""


@dataclass(frozen=True)
class _Brief(MaLflBellman):
    """`ma-lfl-bellman` with the rules of soft policy iteration only, of which it takes the best."""

    rules: ClassVar[tuple[str, ...]] = ("td", "exact")
    averages: ClassVar[bool] = False

    def _gradient(self, trace: LearningTrace) -> Gradient:
        return "never"


def _step_size(result: RecoveredRewards, trace: LearningTrace) -> float:
    """The step size that the judged result says its learners have, or that of `ma-lfl-bellman`."""
    told = result.diagnostics.get(trace.agents[0], {}).get("step_size")
    usual = MaLflBellman.step_size
    assert usual is not None
    return float(told) if isinstance(told, float) and 0 < told < 1 else usual


def _recovered_anew(
    problem: Problem, alpha: float, *, brief: bool, step_size: float
) -> tuple[MaLflBellman, RecoveredRewards]:
    """What `ma-lfl-bellman` recovers, with rule and improvement chosen by evidence."""
    made = MaLflBellman(passes=PASSES, step_size=step_size)
    if brief:
        made = _Brief(passes=PASSES, step_size=step_size, stages="same")
    key = None
    if problem.game is not None and not problem.known:
        counts = tuple(sha256(stage.counts.tobytes()).hexdigest() for stage in problem.trace.stages)
        key = (counts, ref(problem.game.factors[0]), problem.discount, alpha, brief, step_size)
        if _LATEST and _LATEST[0][0] == key:
            return made, _LATEST[0][1]
    result = made.recover(
        problem.trace,
        game=problem.game,
        discount=problem.discount,
        temperature=alpha,
        known_policies=problem.known,
    )
    if key is not None:
        _LATEST[:] = [(key, result)]
    return made, result


def _is_ours(result: RecoveredRewards, trace: LearningTrace) -> bool:
    """Whether the result says under which rule, noise and prior it was recovered."""
    needed = ("rule", "discount", "noise_variance", "prior_variance")
    policies = result.estimated_policies or {}
    return all(
        agent in policies
        and all(result.diagnostics.get(agent, {}).get(name) is not None for name in needed)
        for agent in trace.agents
    )


def _of_histories(result: RecoveredRewards, observer: Logel, problem: Problem) -> Verdict:
    """The verdict on rewards that `logel` recovered with `fit: history`, by its own model."""
    shared, verdicts = numbers_of_trace(problem), {}
    occurs, _ = _compared_states(problem)
    for index, agent in enumerate(problem.trace.agents):
        numbers, drawn = numbers_of_history(
            observer,
            problem,
            index,
            _by_state(result.rewards[agent], problem)[occurs],
            lambda table: _by_state(table, problem)[occurs],
        )
        arrays = {**drawn, "states": np.flatnonzero(occurs)}
        verdicts[agent] = replace(decide({**shared, **numbers}, HISTORY_CHECKS), arrays=arrays)
    return joined(verdicts)


def _compared_states(problem: Problem) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether each joint state can occur, and whether it was visited."""
    visited = np.any([stage.state_counts > 0 for stage in problem.trace.stages], axis=0)
    occurs = visited if problem.game is None else visited | reachable_states(problem.game)
    return occurs, visited


def _by_state(table: FloatArray, problem: Problem) -> FloatArray:
    """A reward's mean over the actions, for every joint state."""
    flat = np.reshape(table, (problem.trace.n_states, -1))
    return np.asarray(flat[:, 0] if flat.shape[1] == 1 else flat.mean(axis=1), np.float64)


def _of_numbers(
    result: RecoveredRewards,
    basis: _Basis,
    index: int,
    shared: Mapping[str, Any],
    observer: Observer | None,
) -> Verdict:
    used = result.source.observer if observer is None and result.source else None
    rule = basis.settings(index)["rule"]
    problem, used = basis.problem, used or type(observer).__name__
    other = other_rule(problem.trace, problem.discount, observer, used, rule)
    try:
        numbers, drawn = _of_the_agent(result, basis, index)
        notes = _before_changes(basis.settings(index), shared) if basis.own else ()
        if rule == "exact" and used != "MaLflHistory" and not problem.known:
            numbers["unvisited_states"] = unvisited(problem.trace)
        word = decide({**shared, **numbers}, notes=notes, other_rule=other)
        told = result.diagnostics.get(problem.trace.agents[index], {}).get("rule")
        advice = list(word.advice)
        if word.word != "believe" and told not in {None, rule}:
            advice.insert(0, RULE.format(other_rule=other))
        if word.word == "do not believe" and basis.settings(index).get("rules_left_out"):
            advice.append(NOT_TRIED)
        return replace(word, arrays=drawn, advice=tuple(dict.fromkeys(advice)))
    except np.linalg.LinAlgError as fault:
        return not_measured("explained", f"its equations cannot be solved: {fault}")


def _before_changes(settings: Mapping[str, Any], shared: Mapping[str, Any]) -> Sequence[str]:
    """Why the rewards before a change are not believed, from which the later ones follow."""
    if "before_changes" not in settings:
        return ()
    early = decide({**shared, **settings["before_changes"], "rule": settings["rule"]})
    if early.word == "believe":
        return ()
    return (f"the rewards before reward_changes, which these build on: {early.reasons[0]}",)


def _unknowns_of(given: FloatArray, basis: _Basis, index: int) -> FloatArray:
    """The reward unknowns whose reward table is `given`."""
    base, _ = basis.observer._unknowns(basis.problem.trace)
    n_actions = basis.problem.trace.n_actions
    width = {"own_action": n_actions[index], "joint": prod(n_actions)}.get(base, 1)
    n_unknowns = len(given) * width
    numbers = np.arange(n_unknowns, dtype=np.float64).reshape(len(given), -1)
    place = in_joint_order(numbers, base, index, n_actions).astype(np.int64)
    unknowns = np.zeros(n_unknowns)
    unknowns[place] = given.reshape(*given.shape, *[1] * (place.ndim - given.ndim))
    return unknowns


def _of_the_agent(
    result: RecoveredRewards, basis: _Basis, index: int
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Numbers about one agent's reward, compared at the joint states that can occur; arrays."""
    trace, agent = basis.problem.trace, basis.problem.trace.agents[index]
    occurs, visited = _compared_states(basis.problem)
    maps = basis.features[index]

    def compared(unknowns: FloatArray) -> FloatArray:
        values = unknowns if maps is None else maps @ unknowns
        return _by_state(values, basis.problem)[occurs]

    settings = basis.settings(index)
    fit = AgentFit(
        index=index,
        stages=basis.stages,
        policies=basis.policies,
        known=agent in basis.problem.known,
        settings=settings,
        model=lambda own: basis.observer._model(basis.game, own),
        reward=_unknowns_of(np.asarray(basis.result.rewards[agent]), basis, index),
        features=maps,
        alpha=basis.alpha,
        smooth=basis.smooth_prior(index),
    )
    searched = "rule" in (settings.get("searches") or {})
    rules = [] if searched or not basis.observer.needs_game else basis.observer.rules
    rules = [rule for rule in rules if choice_of(rule) == "soft"]
    if settings.get("solver") == "low-rank":
        rules = [rule for rule in rules if rule in {"td", "exact"}]
    unknowns = count_unknowns(settings["reward_model"], trace.n_states, trace.n_actions)
    n_seen = int(visited.sum()) * (unknowns // trace.n_states)
    if maps is not None:
        n_seen = min(n_seen, maps.shape[1])
    reward = None if basis.own else _by_state(result.rewards[agent], basis.problem)[occurs]
    drawn: dict[str, FloatArray] = {}
    if settings["rule"] == GRADIENT:
        assert basis.game is not None
        numbers, drawn = numbers_of_gradient(fit, basis.game, reward, compared, n_seen)
    elif "held_out" in settings:
        numbers = {**settings["held_out"], "rule": settings["rule"]}
    elif choice_of(settings["rule"]) == "greedy":
        why = f"the rule {settings['rule']} tells which action is best, not by how much"
        numbers = {"missing": dict.fromkeys(NEEDS_IMPROVEMENTS, why)}
    else:
        numbers, drawn = numbers_of(fit, reward, compared, rules, n_seen)
    bounds = settings.get("bounds_hit") or []
    if settings["rule"] != GRADIENT:  # its noises are of other kinds
        numbers["unpredicted_noise"] = float(settings["noise_variance"]) / basis.alpha**2
        numbers["noise_scale"] = settings.get("noise_scale")
    if basis.own:
        numbers |= {"unsettled": int(not settings.get("settled", True))}
        numbers["passes"] = settings.get("passes")
    # the arrays are of the fit, so they show another observer's reward only if it is the fit's
    arrays = {**drawn, "states": np.flatnonzero(occurs)} if drawn and basis.own else {}
    numbers.setdefault("rule", settings["rule"])
    numbers |= {
        "compared": int(occurs.sum()),
        "unvisited": int((occurs & ~visited).sum()),
        "bounds_hit": list(bounds),
        "policy_misfit": policy_misfit_of(basis.problem, index),
        **policy_change_of(basis.problem, index),
        "prior_variance": float(settings["prior_variance"]) / basis.alpha**2,
    }
    return numbers, arrays
