"""Conformance tests for authors of learners and observers, to be called from their own tests.

They look for what types cannot tell and what shows only later, in somebody else's experiment: a
result that a seed does not fix, counts that were not drawn from the policies claimed, an observer
that has seen the truth. Passing is evidence from a few small games, not a proof.

Public: the names in `__all__`. The modules below this package are private.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from malfl_algos.testing.envs import ObservedWorld
from malfl_algos.testing.learner import LearnerCheck, check_refusals, plays
from malfl_algos.testing.observer import ObserverCheck
from malfl_algos.testing.subject import kept_random_state, subject_of
from malfl_env import grid_world_v0
from malfl_env.errors import InputError

__all__ = ["check_learner", "check_observer"]

_EPISODES, _EPISODE_LENGTH, _TEMPERATURE = 20, 50, 0.5


def check_learner(
    plugin: str | Callable[..., Any],
    *,
    options: Mapping[str, Any] | None = None,
    factory: Callable[[], Any] | None = None,
    n_stages: int = 3,
    seeds: Sequence[int] = (0, 1),
    stochastic: bool = True,
) -> None:
    """Raise an AssertionError that names the first fault of a learner.

    A message reads `fault: what and which value (where)`. The faults looked for:

    - *Declaration*: "not a plugin" (a frozen dataclass, API version, `learn` callable as in the
      protocol); "option without documentation".
    - *Stages*: "call raised"; "not a LearnedStage"; "not a plain Stage" (a class of its own could
      carry what nobody may see); "wrong number of stages"; "counts of another game"; "empty stage";
      "policies of other agents"; "policy of the wrong shape"; "policy is not a distribution";
      "stage overwritten later". Of a stage without counts also: "observations of other agents";
      "steps are not of the environment"; "rewards are not finite numbers per step".
    - *Truthfulness*: "counts contradict the policies" (an impossible action, or frequencies that an
      honest learner shows with a probability of at most 1e-9 a stage; agents that do not draw
      independently; policies of the stage before or after); "visits a joint state that cannot
      occur"; "no next-state counts" (in a stochastic game); "transitions do not follow one
      another" (episodes that begin elsewhere, observations that jump); "impossible next state".
      What a `Stage` rejects by itself (numbers that are no states or actions, counts that
      contradict one another or the steps) is "call raised".
    - *keep_transitions*, where there is that option: "keep_transitions not honoured"; "keeping
      transitions changes the trace".
    - *Randomness*: "one seed, two results"; "learners share state" (two at work in turns); "a
      learner remembers its last use"; "every seed gives one trace"; "global random state touched"
      (of numpy, `random`, and torch where it is loaded).
    - *Surroundings*: "inputs written to"; "writing to a stage changes what follows"; "environment
      not left as it was found"; "thread left behind" (after the generator is closed early).
    - *Errors*: "bad option not refused" and "refusal does not name the option" (discount,
      temperature, episodes, episode_length where it has them); "environment not refused"
      (continuous actions) and "refused too late" (after steps were taken in it); "wrong kind of
      error" (anything but a `ValueError`; agents whose episodes end apart may be refused, too).

    Args:
        plugin: name of an installed learner, its class, or a function of its options.
        options: options to try it with. Left out, those named like a key of the experiment are
            filled in: discount 0.9, temperature 0.5, 20 episodes of 50 steps, transitions not kept.
            More steps make the test of frequencies sharper.
        factory: makes a new parallel environment, with a tabular model (see
            `malfl_env.markov_game`) or without; left out: a grid world of 2x2 cells, without and
            with slip, and for a learner that plays it, one whose agents observe real numbers.
        n_stages: of each run, >= 2; there are about five runs in every game.
        seeds: two different ones.
        stochastic: False for a learner whose counts no seed changes.

    Raises:
        AssertionError: with the first fault found.
        InputError: for an unknown name or option, or arguments that make no sense.
    """
    if n_stages < 2 or len(set(seeds)) != 2:
        raise InputError(
            f"n_stages must be >= 2 and seeds two different ones, got {n_stages}, {list(seeds)}"
        )
    filled = {
        "episodes": _EPISODES,
        "episode_length": _EPISODE_LENGTH,
        "temperature": _TEMPERATURE,
    }
    subject = subject_of(plugin, "learner", options, filled)
    length = int(subject.options.get("episode_length", _EPISODE_LENGTH))
    grid = partial(grid_world_v0.parallel_env, size=2, rewards="heterogeneous", max_cycles=length)
    games: dict[str, Callable[[], Any]] = {"2x2 grid world": grid}
    games["2x2 grid world with slip"] = partial(grid, slip=0.3)
    if factory is not None:
        games = {"the environment given": factory}
    with kept_random_state():
        if factory is None and plays(subject, ObservedWorld(length)):
            games["2x2 grid world of observations"] = partial(ObservedWorld, length)
        for name, make in games.items():
            LearnerCheck(subject, make, n_stages, tuple(seeds), stochastic, name)()
        check_refusals(subject)


def check_observer(
    plugin: str | Callable[..., Any], *, options: Mapping[str, Any] | None = None
) -> None:
    """Raise an AssertionError that names the first fault of an observer.

    It is run on traces of soft policy iteration in games of 16 and 7 joint states; with ordered
    transitions where its class says `needs_transitions`. A message reads `fault: what and which
    value (where)`. The faults looked for:

    - *Declaration*: "not a plugin" (a frozen dataclass, API version, `recover` callable as in the
      protocol); "option without documentation".
    - *Result*: "call raised"; "not a RecoveredRewards"; "not keyed by agent"; "reward of nobody in
      the game"; "agent missing from rewards"; "wrong shape"; "not numbers"; "not finite"; "negative
      spread"; "covariance not symmetric"; "policy is not a distribution"; "diagnostics are not for
      JSON".
    - *Repetition*: "one trace, two results"; "an observer remembers its last trace"; "result does
      not depend on the trace"; "global random state touched" (of numpy, `random`, and torch where
      it is loaded).
    - *Inputs*: "inputs written to"; "call raised" on read-only ones; "result depends on whether
      inputs are read-only".
    - *Peeking*: "reads what it may not see". The same arguments are handed over in worlds that
      differ in the truth alone: in the files of the run folder in which it works, in the variables
      of its callers, in attributes of the trace and its stages, in a game that was not stripped of
      its rewards. A result that differs has looked; so has one that opens a file of the run.
    - *Agents*: "result depends on the agents' names" (two agents called by each other's name);
      "agents mixed up".
    - *Errors*: "bad argument not refused" and "refusal does not name the argument" (discount,
      temperature; games and known policies that do not fit); "wrong kind of error" (anything but a
      `ValueError` there, for one stage, for stages without data, without `game` or `discount`, or
      without the transitions that it needs; where it does answer, the answer must be sound).

    Args:
        plugin: name of an installed observer, its class, or a function of its options.
        options: options to try it with; a `seed` that is left out is 0.

    Raises:
        AssertionError: with the first fault found.
        InputError: for an unknown name or option.

    An observer that changes itself, the clock or the network to get at the truth is not caught.
    """
    subject = subject_of(plugin, "observer", options, {})
    with kept_random_state():
        built = subject.build()
        ObserverCheck(subject, bool(getattr(built, "needs_transitions", False)))()
