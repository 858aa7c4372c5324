"""Conformance tests for authors of learners and observers, to be called from their own tests.

They find errors that types do not show and that would appear later, in the experiment of a user:
a result that depends on more than the seed, counts that were not drawn from the claimed policies,
an observer that reads ground truth. They try a few small games; passing them is no proof.

Public: the names in `__all__`; the modules of this package are private. Read `learner` or
`observer` first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from malfl_algos.testing.games import ObservedWorld
from malfl_algos.testing.learner import LearnerCheck, check_rejections, plays
from malfl_algos.testing.observer import ObserverCheck
from malfl_algos.testing.subject import Check, kept_random_state, subject_of
from malfl_env import grid_world_v0
from malfl_env.arguments import typed
from malfl_env.errors import InputError

__all__ = ["check_learner", "check_observer", "learner_checks", "observer_checks"]

_EPISODES, _EPISODE_LENGTH, _TEMPERATURE = 20, 50, 0.5


@typed
def check_learner(
    plugin: str | Callable[..., Any],
    *,
    options: Mapping[str, Any] | None = None,
    factory: Callable[[], Any] | None = None,
    n_stages: int = 3,
    seeds: Sequence[int] = (0, 1),
    stochastic: bool = True,
) -> None:
    """Raise an AssertionError that names the first error of a learner.

    A message has the form `error: value (where)`. The checks look for these errors:

    - *Declaration*: "not a plugin" (a frozen dataclass, API version, `learn` callable as in the
      protocol); "option without documentation".
    - *Stages*: "call raised"; "not a LearnedStage"; "not a plain Stage" (a subclass could hold
      data that no observer may see); "wrong number of stages"; "counts of another game"; "empty
      stage"; "policies of other agents"; "policy of the wrong shape"; "policy is not a
      distribution"; "stage overwritten later". Of a stage without counts also: "observations of
      other agents"; "steps are not of the environment"; "rewards are not finite numbers per step".
    - *Truthfulness*: "counts contradict the policies" (an action of probability 0; frequencies that
      a correct learner has with a probability of at most 1e-9 per stage; agents that do not draw
      independently; policies of the previous or next stage); "visits a joint state that cannot
      occur"; "no next-state counts" (in a stochastic game); "transitions do not follow one
      another" (an episode begins elsewhere, or an observation jumps); "impossible next state".
      Data that a `Stage` rejects (states or actions out of range, counts that contradict each
      other or the steps) are "call raised".
    - *keep_transitions*, if there is that option: "keep_transitions not honoured"; "keeping
      transitions changes the trace".
    - *Randomness*: "one seed, two results"; "learners share state" (two that run in turns); "a
      learner remembers its last use"; "every seed gives one trace"; "global random state touched"
      (of numpy, `random`, and torch if it is imported).
    - *Surroundings*: "inputs written to"; "writing to a stage changes what follows"; "environment
      not left as it was found"; "thread left behind" (after the generator is closed early).
    - *Errors*: "bad option not rejected" and "rejection does not name the option" (discount,
      temperature, episodes, episode_length, if it has them); "environment not rejected"
      (continuous actions) and "rejected too late" (after steps in it); "wrong kind of error" (an
      exception that is not a `ValueError`; an environment whose agents end at different times may
      be rejected, too).

    Args:
        plugin: name of an installed learner, its class, or a function of its options.
        options: options of the trial. Options that an experiment fills in have these defaults:
            discount 0.9, temperature 0.5, 20 episodes of 50 steps, transitions not kept. More steps
            make the test of frequencies more sensitive.
        factory: makes a new parallel environment, with or without a tabular model (see
            `malfl_env.markov_game`). None: a grid world of 2x2 cells, without and with slip, and,
            for a learner that accepts it, one whose agents observe real numbers.
        n_stages: stages per run, >= 2; every game is run about five times.
        seeds: two different seeds.
        stochastic: False for a learner whose counts do not depend on the seed.

    Raises:
        AssertionError: naming the first error.
        InputError: for an unknown name or option, or an argument out of range.
    """
    given: Any = {"options": options, "factory": factory, "n_stages": n_stages}
    for _, check in learner_checks(plugin, **given, seeds=seeds, stochastic=stochastic):
        check()


@typed
def learner_checks(
    plugin: str | Callable[..., Any],
    *,
    options: Mapping[str, Any] | None = None,
    factory: Callable[[], Any] | None = None,
    n_stages: int = 3,
    seeds: Sequence[int] = (0, 1),
    stochastic: bool = True,
) -> Iterator[Check]:
    """The checks of `check_learner` one by one, for example for `pytest.mark.parametrize`.

    A check that fails does not keep the others from running.

    Args:
        plugin, options, factory, n_stages, seeds, stochastic: as in `check_learner`.

    Yields:
        A name, and a function without arguments that raises an AssertionError.

    Raises:
        AssertionError: for an object that is not a learner.
        InputError: for an unknown name or option, or an argument out of range.
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
        tried = LearnerCheck(subject, make, n_stages, tuple(seeds), stochastic, name)
        yield from map(_kept, tried.checks())
    yield _kept(("errors", partial(check_rejections, subject)))


@typed
def check_observer(
    plugin: str | Callable[..., Any], *, options: Mapping[str, Any] | None = None
) -> None:
    """Raise an AssertionError that names the first error of an observer.

    The observer gets traces of soft policy iteration in games of 16 and 7 joint states, with
    ordered transitions if its class has `needs_transitions = True`. A message has the form
    `error: value (where)`. The checks look for these errors:

    - *Declaration*: "not a plugin" (a frozen dataclass, API version, `recover` callable as in the
      protocol); "option without documentation".
    - *Result*: "call raised"; "not a RecoveredRewards"; "not keyed by agent"; "reward of an
      unknown agent"; "agent missing from rewards"; "wrong shape"; "not numbers"; "not finite";
      "negative spread"; "covariance not symmetric"; "policy is not a distribution"; "diagnostics
      are not JSON".
    - *Repetition*: "one trace, two results"; "an observer remembers its last trace"; "result does
      not depend on the trace"; "global random state touched" (of numpy, `random`, and torch if
      it is imported).
    - *Inputs*: "inputs written to"; "call raised" on read-only ones; "result depends on whether
      inputs are read-only".
    - *Ground truth*: "reads what it may not see". The observer gets the same arguments beside
      different ground truths: in files of the run folder in which it works, in variables of its
      callers, in attributes of the trace and its stages, in the rewards of the game. A different
      result shows that it read them. It must not open a file of the run either.
    - *Agents*: "result depends on the agents' names" (the names of two agents are exchanged);
      "agents mixed up".
    - *Errors*: "bad argument not rejected" and "rejection does not name the argument" (discount,
      temperature; games and known policies that do not fit); "wrong kind of error" (an exception
      that is not a `ValueError`, there, for one stage, for stages without data, without `game` or
      `discount`, or without needed transitions; if it returns a result, the result must be valid).

    Args:
        plugin: name of an installed observer, its class, or a function of its options.
        options: options of the trial; `seed` is 0 by default.

    Raises:
        AssertionError: naming the first error.
        InputError: for an unknown name or option.

    An observer that gets ground truth by other means, such as a network, is not detected.
    """
    for _, check in observer_checks(plugin, options=options):
        check()


@typed
def observer_checks(
    plugin: str | Callable[..., Any], *, options: Mapping[str, Any] | None = None
) -> Iterator[Check]:
    """The checks of `check_observer` one by one; as `learner_checks`."""
    subject = subject_of(plugin, "observer", options, {})
    with kept_random_state():
        keep = bool(getattr(subject.build(), "needs_transitions", False))
        checks = list(ObserverCheck(subject, keep).checks())
    yield from map(_kept, checks)


def _kept(check: Check) -> Check:
    """The same check; it leaves the global random generators as they were."""
    name, call = check

    def run() -> None:
        with kept_random_state():
            call()

    return name, run
