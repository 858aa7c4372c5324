"""Settings of a recovery that are not given: the solver is chosen by the size of the game;
discount, learner's rule, rule of improvement and step size are chosen by evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from malfl_algos.ma_lfl.carried_rules import choice_of, follows_q
from malfl_algos.ma_lfl.shared_values import shared_bytes
from malfl_algos.ma_lfl.step_search import CARRIED_STEP_SIZES, choose_step_size, choose_steps
from malfl_env.checks import check_table_bytes

__all__ = [
    "GRADIENT",
    "LINEARISED_PASSES",
    "POOR",
    "SEARCH_PASSES",
    "SEARCH_STAGES",
    "Gradient",
    "Solver",
    "check_solver",
    "choose_settings",
    "choose_solver",
    "prior_log_odds",
]

FloatArray = NDArray[np.float64]
Solver = Literal["dense", "iterative", "low-rank"]
Gradient = Literal["never", "where others fail", "always"]
_Key = tuple[str, float | None]
"""A rule and rho; None: rho > 0, searched."""
_Table = dict[_Key, float]

DENSE_UNKNOWNS = 1000
"""Above this number of unknowns the iterative solver is faster."""
DISCOUNTS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.99)
"""Grid over which an unknown discount is profiled."""
STEP_SIZES = (0.005, 0.8)
"""Bounds of the search for an unknown step size."""
MOST_ROUNDS = 3
"""Largest number of times that rule and steps of learners that carry q over are chosen in turn."""
SEARCH_STAGES, SEARCH_PASSES = 4, 2
"""Number of stages, and of iterations, on which unknown settings are chosen."""
GREEDY_MARGIN = 100.0
"""Epsilon-greedy choices are assumed only if they raise the log evidence by more than this: with an
epsilon of 0 and a policy that moves, they are soft choices at an open temperature.
"""
LINEARISED_PASSES = 2
"""Number of further iterations for models that are linearised at the last iteration's reward."""
CARRIED_MARGIN, SURE_MARGIN = 60.0, 150.0
"""Rules of learners that carry their q over win over the others if the log evidence of all stages
is higher by more than the first. Where that of the first stages is higher by more than the second,
the first stages decide.
"""
GRADIENT_MARGIN = 20.0
"""The rule `policy-gradient` must raise the log evidence by more than this, because its settings
are fitted and not integrated out. On learners of other rules its evidence is lower by hundreds.
"""
POOR = 0.15
"""Share of the variance of improvements that a fitting rule leaves to noise at most: 0.07 with soft
policy iteration on little data, more than 0.25 with gradient learners under any other rule.
"""
GRADIENT = "policy-gradient"
"""The rule of learners that follow the gradient of their return, see `policy_gradient`."""
RETAINING_MARGIN = 20.0
"""Learners are taken to keep a share rho > 0 of their log policy only if that raises the log
evidence by more than this: soft policy iteration, rho = 0, is likely beforehand.
"""


def prior_log_odds(settings: Mapping[str, Any]) -> float:
    """Log odds of a rule against soft policy iteration before the data are seen, as the margins of
    the search state them.
    """
    odds = -CARRIED_MARGIN if follows_q(settings["rule"]) else 0.0
    return odds - (0.0 if settings["improvement"] == 0 else RETAINING_MARGIN)


def choose_solver(wanted: str, n_unknowns: int, *, given: bool, low_rank: bool) -> Solver:
    """The wanted solver; for `auto` the dense one in small games, in others one that is possible.

    Args:
        wanted: `auto`, `dense`, `iterative` or `low-rank`.
        n_unknowns: number of reward values.
        given: whether noise and prior are given, not needed, or searched without matrices.
            Otherwise the iterative solver is not possible.
        low_rank: whether a smooth prior of low rank is possible.
    """
    if wanted == "auto":
        if n_unknowns <= DENSE_UNKNOWNS:
            return "dense"
        return "iterative" if given else "low-rank" if low_rank else "dense"
    named: dict[str, Solver] = {"iterative": "iterative", "low-rank": "low-rank"}
    return named.get(wanted, "dense")


def check_solver(
    solver: Solver, n_formed: int, n_states: int, n_actions: tuple[int, ...], n_stages: int
) -> None:
    """Reject a game whose arrays would not fit into memory, before they are allocated.

    Args:
        solver: the solver.
        n_formed: number of unknowns, or of feature weights, whose coefficients are formed; 0 for
            the iterative solver without features. For `low-rank`: of states to interpolate from.
            Without features a preconditioner is counted, too: `low-rank` may compare with
            independent rewards.
        n_states, n_actions, n_stages: sizes of the trace.

    Raises:
        InputError: the message states the bytes needed and what would fit.
    """
    rows = n_stages * n_states * max(n_actions)
    if solver == "dense":
        check_table_bytes(
            8 * rows * n_formed,
            f"the coefficients of {n_formed} reward unknowns over {n_states} joint states",
            "give ma-lfl-bellman the options noise_variance and prior_variance (evidence chooses "
            "them on a smaller game of this kind), so that it needs no coefficients",
        )
        return
    check_table_bytes(8 * rows, f"a value per stage, joint state and action ({rows} of them)")
    check_table_bytes(
        8 * n_states * prod(n_actions), f"the joint actions of {n_states} joint states"
    )
    formed, remedy = "features", "choose fewer features or a smaller game"
    if solver == "low-rank":
        formed = "rewards to interpolate from"
        remedy = "lower the option columns, or give noise_variance and prior_variance"
    words = f"the coefficients of {n_formed} {formed} over {n_states} joint states"
    beside = shared_bytes(n_states) if solver == "low-rank" or not n_formed else 0
    if beside:
        words += f" and a matrix of {n_states} joint states squared as preconditioner"
    check_table_bytes(8 * rows * n_formed + beside, words, remedy)


def choose_settings(
    evidence: Callable[[dict[str, Any]], float],
    rules: Sequence[str],
    *,
    rule: str | None,
    discount: float | None,
    step_size: float | None,
    improvement: float | None = 0.0,
    gradient: Gradient = "never",
    whole: Callable[[dict[str, Any]], float] | None = None,
    every_stage: Callable[[dict[str, Any]], float] | None = None,
    unexplained: Callable[[dict[str, Any]], float] | None = None,
    step_size_decay: float | None = 0.0,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Choose every setting that is None by largest evidence, one after the other.

    Args:
        evidence: log evidence as a function of the settings `discount`, `rule`, `step_size`,
            `step_size_decay`, `improvement`.
        rules: possible rules of the learners; the first is used until the rule is chosen.
        rule, discount, step_size: settings of the learners; None: unknown.
        improvement: share rho that the learners keep of their log policy; None: unknown.
        gradient: when to try `policy-gradient` as one more rule. Such learners keep all of their
            log policy, so the setting `improvement` is then 1.
        whole: as `evidence`, from all stages, for rules that the first stages do not tell apart;
            None: `evidence`.
        every_stage: as `evidence`, from all stages, for the last two rules, each with its own step
            size; None: `evidence`.
        unexplained: share of the variance of the improvements that settings leave to noise. If it
            is small, epsilon-greedy choices and policy gradients `where others fail` are not tried;
            they take long. None: it is large.
        step_size_decay: power w in step_size / k^w at the k-th update; None: unknown for learners
            that carry q over, 0 for others.

    Returns:
        The settings, and by name of a setting the evidence of every choice that was tried. The
        setting `improvement` is rho; None: rho > 0, to be searched in every fit.
    """
    settings: dict[str, Any] = {
        "discount": 0.9 if discount is None else discount,
        "rule": rules[0] if rule is None else rule,
        "step_size": 0.1 if step_size is None else step_size,
        "step_size_decay": step_size_decay or 0.0,
        "improvement": improvement or 0.0,
    }
    searches: dict[str, Any] = {}
    if rule == GRADIENT:
        improvement = settings["improvement"] = 1.0

    def choose_rule() -> _Table:
        poor, finalists = _choose_rule(
            evidence,
            whole or evidence,
            unexplained or (lambda _: 1.0),
            rules,
            settings,
            searches,
            rule=rule,
            improvement=improvement,
        )
        if rule is None and (gradient == "always" or (gradient == "where others fail" and poor)):
            _try_gradient(evidence, whole or evidence, settings, searches)
        return finalists

    finalists = choose_rule()
    if discount is None:
        table = {choice: evidence({**settings, "discount": choice}) for choice in DISCOUNTS}
        settings["discount"] = max(table, key=table.__getitem__)
        searches["discount"] = {str(choice): value for choice, value in table.items()}
        if improvement is None:  # the first choice was made under another discount
            finalists = choose_rule()
    if step_size is None and len(finalists) > 1 and settings["rule"] != GRADIENT:
        _choose_finalist(evidence, every_stage or evidence, finalists, settings, searches)
    if follows_q(settings["rule"]):
        following = [one for one in rules if follows_q(one)] if rule is None else []
        _choose_rule_and_steps(
            evidence, following, settings, searches, step_size=step_size, decay=step_size_decay
        )
    elif step_size is None and "step_size" not in searches:
        _choose_own_step(evidence, settings, searches)
    return settings, searches


def _choose_finalist(
    evidence: Callable[[dict[str, Any]], float],
    every_stage: Callable[[dict[str, Any]], float],
    finalists: _Table,
    settings: dict[str, Any],
    searches: dict[str, Any],
) -> None:
    """Compare the best rule of either kind again, each with its own step size.

    Under a wrong step size all rules are wrong, and their evidence says little about them. Both
    have the same decay, so that neither has more to adapt than the other.

    Args:
        evidence, every_stage: as in `choose_settings`.
        finalists: the rule that does not carry q over, the one that does, and their evidence. They
            are compared if that differs by `SURE_MARGIN` at most.
        settings, searches: get the rule, rho and step size.
    """
    plain, carried = finalists
    if abs(finalists[carried] - finalists[plain]) > SURE_MARGIN:
        return
    tried: dict[_Key, tuple[dict[str, Any], dict[str, Any]]] = {}
    for key in finalists:
        tried[key] = _with(settings, key), {}
        _choose_own_step(evidence, *tried[key])
    values = {key: every_stage(own) for key, (own, _) in tried.items()}
    chosen = carried if values[carried] > values[plain] + CARRIED_MARGIN else plain
    settings.update(tried[chosen][0])
    searches.update(tried[chosen][1])
    searches["own step sizes"] = {_words(key): value for key, value in values.items()}


def _choose_own_step(
    evidence: Callable[[dict[str, Any]], float],
    settings: dict[str, Any],
    searches: dict[str, Any],
) -> None:
    """Choose the step size of a rule that has one."""
    if settings["rule"] not in ("exact", GRADIENT):
        bounds = CARRIED_STEP_SIZES if follows_q(settings["rule"]) else STEP_SIZES
        choose_step_size(evidence, settings, searches, bounds, 0.05)


def _choose_rule_and_steps(
    evidence: Callable[[dict[str, Any]], float],
    rules: Sequence[str],
    settings: dict[str, Any],
    searches: dict[str, Any],
    *,
    step_size: float | None,
    decay: float | None,
) -> None:
    """Choose the steps of learners that carry q over, and their rule again with these steps.

    Args:
        evidence, settings, searches: as in `choose_settings`.
        rules: rules to choose from; none: the rule is known.
        step_size, decay: None: unknown.
    """
    for _ in range(MOST_ROUNDS):
        before = settings["rule"]
        choose_steps(evidence, settings, searches, step_size, decay)
        if not rules or "step_size" not in searches:
            return
        _choose_rule(
            evidence,
            evidence,
            lambda _: np.inf,
            rules,
            settings,
            searches,
            rule=None,
            improvement=0.0,
        )
        if settings["rule"] == before:
            return


def _choose_rule(
    evidence: Callable[[dict[str, Any]], float],
    whole: Callable[[dict[str, Any]], float],
    unexplained: Callable[[dict[str, Any]], float],
    rules: Sequence[str],
    settings: dict[str, Any],
    searches: dict[str, Any],
    *,
    rule: str | None,
    improvement: float | None,
) -> tuple[bool, _Table]:
    """Choose the learners' rule and the share rho together, into `settings` and `searches`.

    rho = 0 wins unless some rho > 0 is better by more than `RETAINING_MARGIN`. Rules whose learners
    carry their q over have to be better than the others by `CARRIED_MARGIN`, and epsilon-greedy
    choices, whose evidence is listed lower by it, by `GREEDY_MARGIN`.

    Returns:
        Whether the rules whose learners do not carry their q over leave much unexplained.
    """
    if rule is not None and improvement is not None:
        return True, {}
    candidates = rules if rule is None else (rule,)
    plain: _Table = {
        (one, retained): evidence({**settings, "rule": one, "improvement": retained})
        for retained in ((0.0, None) if improvement is None else (improvement,))
        for one in candidates
        if not follows_q(one)
    }
    chosen = _best(plain)
    poor = chosen is None or unexplained(_with(settings, chosen)) > POOR
    others: _Table = {
        (one, 0.0): evidence({**settings, "rule": one, "improvement": 0.0})
        - (GREEDY_MARGIN if choice_of(one) == "greedy" else 0.0)
        for one in candidates
        if follows_q(one) and not improvement and (poor or choice_of(one) != "greedy")
    }
    carried, table = _best(others), {**plain, **others}
    if not table:
        return poor, {}
    finalists = {key: table[key] for key in (chosen, carried) if key is not None}
    if chosen is None:
        chosen = carried
    elif carried is not None and table[carried] > table[chosen]:
        sure = table[carried] > table[chosen] + SURE_MARGIN
        values = {key: whole(_with(settings, key)) for key in (() if sure else (chosen, carried))}
        if sure or values[carried] > values[chosen] + CARRIED_MARGIN:
            chosen = carried
        searches["all stages"] = {_words(key): value for key, value in values.items()}
    assert chosen is not None
    settings.update(rule=chosen[0], improvement=chosen[1])
    if rule is None:
        kept = {key[0]: value for key, value in table.items() if key[1] == chosen[1]}
        searches["rule"] = kept
    if improvement is None:
        searches["improvement"] = {
            words: {key[0]: value for key, value in table.items() if key[1] == retained}
            for words, retained in (("0", 0.0), ("> 0", None))
        }
    return poor, finalists


def _with(settings: dict[str, Any], key: _Key) -> dict[str, Any]:
    return {**settings, "rule": key[0], "improvement": key[1]}


def _best(table: _Table) -> _Key | None:
    """The rule and rho of largest evidence; rho > 0, given as None, by `RETAINING_MARGIN`."""
    if not table:
        return None
    kept = {key: value for key, value in table.items() if key[1] is None}
    others = {key: value for key, value in table.items() if key[1] is not None}
    best = max(others or kept, key=table.__getitem__)
    other = max(kept or others, key=table.__getitem__)
    return other if table[other] > table[best] + RETAINING_MARGIN else best


def _words(key: _Key) -> str:
    return key[0] if key[1] == 0 else f"{key[0]}, rho {'> 0' if key[1] is None else key[1]}"


def _try_gradient(
    evidence: Callable[[dict[str, Any]], float],
    whole: Callable[[dict[str, Any]], float],
    settings: dict[str, Any],
    searches: dict[str, Any],
) -> None:
    """Choose the rule `policy-gradient` if it is better than the chosen one by more than
    `GRADIENT_MARGIN`, by the evidence of all stages unless the first ones are sure.
    """
    other = searches["rule"][settings["rule"]]
    tried = {**settings, "rule": GRADIENT, "improvement": 1.0}
    found = evidence(tried)
    searches["rule"] = {**searches["rule"], GRADIENT: found}
    if abs(found - other) <= SURE_MARGIN:
        other, found = whole(settings), whole(tried)
        key = (settings["rule"], settings["improvement"])
        earlier = searches.get("all stages", {})
        searches["all stages"] = {**earlier, _words(key): other, GRADIENT: found}
    if found > other + GRADIENT_MARGIN:
        settings.update(rule=GRADIENT, improvement=1.0)
