"""The checks of learners, in the order of `check_learner`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from malfl_algos.plugins.claims import contradiction
from malfl_algos.testing.games import ApartEnv, ContinuousEnv
from malfl_algos.testing.stages import (
    check_frequencies,
    check_observed_stage,
    check_stage,
)
from malfl_algos.testing.subject import ERRORS, Check, Subject, guarded, parts, unsettle
from malfl_env import markov_game
from malfl_env.checks import shown
from malfl_env.errors import InputError
from malfl_env.testing.protocol import fail
from malfl_env.testing.run import Run, blamed, episode_fingerprints
from malfl_env.testing.values import difference, overwrite

__all__ = ["LearnerCheck", "check_rejections", "plays"]

PATIENCE = 5.0
"""Seconds within which a thread must end after its learner was closed."""

_ENDS = object()
_REJECTED = {
    "discount": (-0.1, 1.5),
    "temperature": (-1.0,),
    "episodes": (0,),
    "episode_length": (0,),
}


@dataclass(frozen=True)
class LearnerCheck:
    """A learner on one game.

    Args:
        subject: the learner.
        factory: makes a new environment of the game.
        n_stages: of each run.
        seeds: two different ones.
        stochastic: whether a different seed must give a different trace.
        game_name: for messages.
    """

    subject: Subject
    factory: Callable[[], Any]
    n_stages: int
    seeds: Sequence[int]
    stochastic: bool
    game_name: str

    def checks(self) -> Iterator[Check]:
        """All checks on this game, by name."""
        game = self.game_name
        yield f"stages ({game})", lambda: self.first and None
        yield f"repetition ({game})", lambda: self._check_repeats(self.first)
        yield f"second use ({game})", lambda: self._check_used(self.learner, self.first)
        yield f"closed early ({game})", self._check_close
        if "keep_transitions" in self.subject.known:
            yield f"keep_transitions ({game})", lambda: self._check_keeping(self.first)

    @cached_property
    def learner(self) -> Any:
        """A learner that the first run uses first."""
        return self.subject.build()

    @cached_property
    def first(self) -> list[Any]:
        """Copies of the stages of the first run, each checked."""
        return self._first_run(self.learner)

    def _where(self, number: int | str = "") -> str:
        return f"{self.game_name}, seed {self.seeds[0]}" + (
            f", stage {number}" if number != "" else ""
        )

    def _stages(self, learner: Any, env: Any, seed: int) -> Generator[Any, None, None]:
        """The stages, each checked for exceptions; one more than requested, if there is one."""
        rng = np.random.default_rng(seed)
        iterator = guarded(
            lambda: iter(learner.learn(env, n_stages=self.n_stages, rng=rng)), self._where()
        )
        try:
            for number in range(self.n_stages + 1):
                stage = guarded(lambda: next(iterator, _ENDS), self._where(number))
                if stage is _ENDS:
                    return
                yield stage
        finally:
            if hasattr(iterator, "close"):
                guarded(iterator.close, f"{self._where()}, closed")

    def _first_run(self, learner: Any) -> list[Any]:
        """Check every stage, then the environment; returns copies of the stages."""
        env = self.factory()
        game = _tabular(env)
        before = parts(game)
        keep = self.subject.options.get("keep_transitions")
        given, copies = [], []
        for number, stage in enumerate(self._stages(learner, env, self.seeds[0])):
            if number < self.n_stages:
                self._check_stage(stage, env, game, keep, self._where(number))
            given.append(stage)
            copies.append(parts(stage))
            for old, (live, copied) in enumerate(zip(given, copies, strict=True)):
                gap = difference(copied, parts(live))
                if gap:
                    fail("stage overwritten later", self._where(old), gap)
        if len(given) != self.n_stages:
            found = f"more than {self.n_stages}" if len(given) > self.n_stages else len(given)
            detail = f"n_stages is {self.n_stages}, the learner yielded {found}"
            fail("wrong number of stages", self._where(), detail)
        self._check_counts(given, env.possible_agents)
        self._check_env(env)
        gap = difference(before, parts(_tabular(env)))
        if gap:
            fail("inputs written to", self._where(), f"the game's tables: {gap}")
        return copies

    def _check_stage(self, stage: Any, env: Any, game: Any, keep: bool | None, where: str) -> None:
        """Check a stage with counts, or one of steps with observations."""
        if game is None or getattr(getattr(stage, "observed", None), "joint_counts", game) is None:
            check_observed_stage(stage, env, where=where)
        else:
            check_stage(stage, game, keep=keep, where=where)

    def _check_counts(self, stages: list[Any], agents: Sequence[str]) -> None:
        """Check that the claimed policies were played."""
        if stages[0].observed.joint_counts is None:
            for number, stage in enumerate(stages):
                detail = contradiction(stage, agents)
                if detail is not None:
                    fail("counts contradict the policies", self._where(number), detail)
            return
        counts = [stage.observed.counts for stage in stages]
        claimed = [
            [np.asarray(stage.truth.policies[agent]) for agent in agents] for stage in stages
        ]
        check_frequencies(counts, claimed, [self._where(n) for n in range(len(stages))])

    def _check_env(self, env: Any) -> None:
        """Check that the environment plays like a new one."""
        with blamed(f"environment not left as it was found ({self._where()})"):
            used, fresh = (
                episode_fingerprints(
                    Run(one, infos=False), seed=self.seeds[0], n_steps=10, action_seed=0
                )
                for one in (env, self.factory())
            )
            assert used == fresh, "after reset(seed) its episode differs from that of a new one"

    def _check_repeats(self, first: list[Any]) -> None:
        """Repeat a seed, in turns with another seed, with other global generators."""
        unsettle(self.seeds[1] + 1)
        runs = [self._stages(self.subject.build(), self.factory(), seed) for seed in self.seeds]
        pairs = list(islice(zip(*runs, strict=False), self.n_stages))
        for run in runs:
            run.close()
        again, other = ([parts(stage) for stage in column] for column in zip(*pairs, strict=True))
        gap = difference(first, again)
        if gap:
            alone = list(
                map(parts, self._stages(self.subject.build(), self.factory(), self.seeds[0]))
            )
            if difference(first, alone) is None:
                fail("learners share state", self._where(), f"when two of them run in turns: {gap}")
            fail("one seed, two results", self._where(), gap)
        if self.stochastic and difference(_counts(first), _counts(other)) is None:
            detail = f"the counts of seeds {self.seeds[0]} and {self.seeds[1]} are the same"
            fail("every seed gives one trace", self.game_name, detail)

    def _check_used(self, learner: Any, first: list[Any]) -> None:
        """Use the same learner again, and overwrite every stage that it yields."""
        again = []
        for stage in self._stages(learner, self.factory(), self.seeds[0]):
            again.append(parts(stage))
            overwrite(stage.truth.policies)
            overwrite(stage.truth.rewards)
            overwrite(stage.observed.joint_counts)
        gap = difference(first, again)
        if gap:
            plain = list(map(parts, self._stages(learner, self.factory(), self.seeds[0])))
            if difference(first, plain) is None:
                fail("writing to a stage changes what follows", self._where(), gap)
            fail("a learner remembers its last use", self._where(), gap)

    def _check_close(self) -> None:
        """Close a learner after one stage: no thread may be left, the environment is as before."""
        env, threads = self.factory(), set(threading.enumerate())
        rng = np.random.default_rng(self.seeds[0])
        where = f"{self._where()}, closed after the first stage"
        iterator = guarded(
            lambda: self.subject.build().learn(env, n_stages=self.n_stages, rng=rng), where
        )
        guarded(lambda: next(iter(iterator)), where)
        if hasattr(iterator, "close"):
            guarded(iterator.close, where)
        deadline = time.monotonic() + PATIENCE
        while left := [t.name for t in threading.enumerate() if t not in threads]:
            if time.monotonic() > deadline:
                fail("thread left behind", where, shown(left))
            time.sleep(0.01)
        self._check_env(env)

    def _check_keeping(self, first: list[Any]) -> None:
        """Check that keeping transitions does not change the trace."""
        keep = not self.subject.options["keep_transitions"]
        env = self.factory()
        game, found = _tabular(env), []
        learner = self.subject.build(keep_transitions=keep)
        for number, stage in enumerate(self._stages(learner, env, self.seeds[0])):
            where = f"{self._where(number)}, keep_transitions={keep}"
            self._check_stage(stage, env, game, keep, where)
            found.append(parts(stage))
        gap = difference(_counts(first), _counts(found))
        if gap:
            fail("keeping transitions changes the trace", self._where(), gap)


def _counts(stages: list[Any]) -> list[Any]:
    """The counts of each stage, or its joint actions if it has no counts."""
    return [
        stage["observed"]["joint_counts"]
        if stage["observed"]["joint_counts"] is not None
        else stage["observed"]["transitions"]["joint_actions"]
        for stage in stages
    ]


def _tabular(env: Any) -> Any:
    """The tabular model of an environment; None if it has none."""
    try:
        return markov_game(env)
    except InputError:
        return None


def check_rejections(subject: Subject) -> None:
    """Check that bad options and environments are rejected by a `ValueError` that names them."""
    for name, values in _REJECTED.items():
        for value in values if name in subject.known else ():
            options = {**subject.options, name: value}
            where = f"{name} = {value}"
            fault = _rejection(lambda options=options: _begin(subject, options), where)  # type: ignore[misc]
            if fault is None:
                fail("bad option not rejected", where, "the learner yielded a stage")
            if name not in fault and name.replace("_", " ") not in fault:
                fail("rejection does not name the option", where, shown(fault))
    for env in (ContinuousEnv(), ApartEnv()):
        where = f"environment {env.metadata['name']}"
        fault = _rejection(lambda env=env: _begin(subject, subject.options, env), where)  # type: ignore[misc]
        if fault is None and isinstance(env, ContinuousEnv):
            fail("environment not rejected", where, "continuous actions cannot be counted")
        if fault is not None and isinstance(env, ContinuousEnv) and env.n_steps:
            detail = f"it took {env.n_steps} steps before the error: {shown(fault)}"
            fail("rejected too late", where, detail)


def plays(subject: Subject, env: Any) -> bool:
    """Whether a learner accepts an environment; it rejects one by a `ValueError`."""
    return _rejection(lambda: _begin(subject, subject.options, env), env.metadata["name"]) is None


def _begin(subject: Subject, options: Any, env: Any = None) -> None:
    from malfl_env import grid_world_v0

    game = grid_world_v0.parallel_env(size=2, max_cycles=10) if env is None else env
    learner = subject.make(**options)
    next(iter(learner.learn(game, n_stages=2, rng=np.random.default_rng(0))))


def _rejection(call: Callable[[], None], where: str) -> str | None:
    try:
        call()
    except ValueError as fault:
        return str(fault)
    except ERRORS as fault:
        detail = f"expected a ValueError, got {type(fault).__name__}: {fault}"
        raise AssertionError(f"wrong kind of error: {detail} ({where})") from fault
    return None
