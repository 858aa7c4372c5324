"""Drive an environment and check everything that it returns."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from typing import Any

import numpy as np

from malfl_env.checks import shown
from malfl_env.testing.protocol import (
    PARTS,
    Environment,
    Moment,
    check_declaration,
    check_live_agents,
    check_shared_memory,
    check_space_objects,
    check_values,
    fail,
    possible_agents,
    state_of,
)
from malfl_env.testing.values import difference, fingerprint, overwrite, snapshot

__all__ = [
    "Run",
    "blamed",
    "episode_fingerprints",
    "global_random_state",
    "in_step",
    "moment_difference",
    "opened",
    "restore_global_random_state",
]


def global_random_state() -> tuple[Any, Any]:
    """The states of the generators behind `numpy.random.*` and `random.*`."""
    return np.random.get_state(legacy=False), random.getstate()  # noqa: NPY002


def restore_global_random_state(state: tuple[Any, Any]) -> None:
    """Put both generators back into a state from `global_random_state`."""
    np.random.set_state(state[0])  # noqa: NPY002
    random.setstate(state[1])


def guarded(call: Callable[[], Any], where: str) -> Any:
    """The result of a call into the environment; errors and global random draws are failures."""
    before = global_random_state()
    try:
        result = call()
    except Exception as error:
        raise AssertionError(f"call raised: {type(error).__name__}: {error} ({where})") from error
    after = global_random_state()
    for library, moved in (
        ("numpy", difference(before[0], after[0])),
        ("random", before[1] != after[1]),
    ):
        if moved:
            fail("global random state touched", where, f"the global generator of {library} moved")
    return result


@contextmanager
def opened(factory: Callable[[], Any], count: int = 1) -> Iterator[list[Environment]]:
    """`count` new environments, closed at the end."""
    envs: list[Any] = []
    try:
        for _ in range(count):
            env = guarded(factory, "in the factory")
            if any(env is other for other in envs):
                fail("factory returned one object twice", "in the factory", shown(env))
            envs.append(env)
            check_declaration(env)
        yield envs
    except BaseException:  # the first error is reported, also if closing fails afterwards
        for env in envs:
            with suppress(AssertionError):
                close(env)
        raise
    for env in envs:
        close(env)


def close(env: Any) -> None:
    """Close an environment if it has `close()`, which must not raise."""
    if hasattr(env, "close"):
        guarded(env.close, "in close()")


@contextmanager
def blamed(fault: str) -> Iterator[None]:
    """Report every AssertionError of the context as `fault`."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{fault}: {error}") from error


class Run:
    """One environment, driven and checked.

    Args:
        env: the environment.
        infos: whether infos are compared.
        reverse: pass every action dict in reversed order.
        scribble: overwrite every observation after it was copied, as a learner that normalises in
            place would.
    """

    def __init__(
        self,
        env: Environment,
        *,
        infos: bool = True,
        reverse: bool = False,
        scribble: bool = False,
    ) -> None:
        self.env = env
        self.moment = Moment(0, (), {}, None)
        self._infos, self._reverse, self._scribble = infos, reverse, scribble
        self._possible = possible_agents(env)
        self._spaces: dict[tuple[str, Any], Any] = {}
        self._finished: set[Any] = set()
        self._kept: list[tuple[Moment, Moment]] = []
        self._story = ""

    def _where(self, step: int) -> str:
        return f"{f'step {step}' if step else 'reset'} after {self._story}"

    def reset(self, seed: int | None = None) -> Moment:
        """Start an episode; without a seed the environment must continue its random stream."""
        call = f"reset(seed={seed})" if seed is not None else "reset()"
        self._story = call if seed is not None or not self._story else f"{self._story}, {call}"
        self._finished, self._kept = set(), []
        where = self._where(0)
        options = {} if seed is None else {"seed": seed}
        returned = guarded(lambda: (self.env.reset(**options), state_of(self.env)), where)
        moment = self._received(0, ("observations", "infos"), returned, where)
        if not moment.agents:
            fail("no agents after reset", where, "env.agents is empty")
        return self._settle(moment, moment.agents, where)

    def step(self, actions: Mapping[Any, Any]) -> Moment:
        """Take one step with a copy of `actions`."""
        before, number = self.moment.agents, self.moment.step + 1
        where = self._where(number)
        order = reversed(list(actions)) if self._reverse else actions
        handed = {agent: snapshot(actions[agent]) for agent in order}
        returned = guarded(lambda: (self.env.step(handed), state_of(self.env)), where)
        gap = difference(actions, handed)
        if gap:
            fail("step() changed the action dict", where, gap)
        moment = self._received(number, PARTS, returned, where)
        expected = dict.fromkeys((*before, *moment.agents))
        self._settle(moment, tuple(expected), where)
        check_live_agents(before, moment, self._finished, where)
        return self.moment

    def _received(
        self, step: int, parts: tuple[str, ...], returned: tuple[Any, Any], where: str
    ) -> Moment:
        """The moment made from the result of `reset` or `step` and from the state."""
        result, state = returned
        if not isinstance(result, tuple) or len(result) != len(parts):
            fail("wrong return value", where, f"expected {', '.join(parts)}, got {shown(result)}")
        for part, values in zip(parts, result, strict=True):
            if not isinstance(values, Mapping):
                fail("wrong return value", where, f"{part} must be a dict, got {shown(values)}")
        agents = tuple(self.env.agents)
        if self._possible is not None:
            if possible_agents(self.env) != self._possible:
                found = shown(possible_agents(self.env))
                fail("possible_agents changed", where, f"{found}, was {shown(self._possible)}")
            strangers = [agent for agent in agents if agent not in self._possible]
            if strangers:
                fail("agent outside possible_agents", where, shown(strangers))
        if len(set(agents)) < len(agents):
            fail("agent listed twice", where, shown(agents))
        return Moment(step, agents, dict(zip(parts, result, strict=True)), state)

    def _settle(self, raw: Moment, expected: tuple[Any, ...], where: str) -> Moment:
        """Check a raw moment and keep a copy as the present one."""
        check_space_objects(self.env, expected, self._spaces, where)
        check_values(self.env, raw, expected, where)
        copied = Moment(raw.step, raw.agents, snapshot(raw.returned), snapshot(raw.state))
        if self._scribble:
            overwrite(raw.returned["observations"])
            overwrite(raw.state)
        else:
            check_shared_memory(raw, where)
            for old, saved in self._kept:
                gap = moment_difference(saved, old, infos=self._infos)
                if gap:
                    when = self._where(old.step)
                    fail("returned value overwritten later", where, f"the result of {when}: {gap}")
            # The first two moments are kept for the whole episode, to detect rings of buffers.
            self._kept = [*self._kept[:2], (raw, copied)]
        self.moment = copied
        return copied


def moment_difference(left: Moment, right: Moment, *, infos: bool = True) -> str | None:
    """Where two moments first differ, comparing infos last if at all; None if they are equal."""
    if left.agents != right.agents:
        return f"agents: {shown(left.agents)} and {shown(right.agents)}"
    parts = [part for part in left.returned if part != "infos"] + ["infos"] * infos
    gaps = (difference(left.returned[part], right.returned[part], part) for part in parts)
    return next((gap for gap in gaps if gap), difference(left.state, right.state, "state()"))


class ActionSampler:
    """Random legal actions, drawn from copies of the action spaces (the originals stay unused)."""

    def __init__(self, env: Environment, seed: int) -> None:
        self._env, self._seed = env, seed
        self._spaces: dict[Any, Any] = {}

    def __call__(self, moment: Moment) -> dict[Any, Any]:
        return {agent: self._sample(agent, moment) for agent in moment.agents}

    def _sample(self, agent: Any, moment: Moment) -> Any:
        if agent not in self._spaces:
            space = deepcopy(self._env.action_space(agent))
            words = np.random.SeedSequence([self._seed, len(self._spaces)]).generate_state(1)
            space.seed(int(words[0]))
            self._spaces[agent] = space
        mask = None
        for part in ("observations", "infos"):
            value = moment.returned[part][agent]
            if mask is None and isinstance(value, Mapping):
                mask = value.get("action_mask")
        if mask is None:
            return self._spaces[agent].sample()
        try:
            if isinstance(mask, (list, np.ndarray)):
                mask = np.asarray(mask, dtype=np.int8)
            return self._spaces[agent].sample(mask)
        except Exception as error:
            space = self._spaces[agent]
            detail = f"the mask {shown(mask)} of {agent!r} does not fit {space}: {error}"
            fail("action_mask does not fit its space", f"step {moment.step}", detail)


def in_step(
    left: Run, right: Run, *, seed: int | None, n_steps: int, action_seed: int
) -> Iterator[tuple[Moment, Moment]]:
    """Play two runs with the actions sampled for the left one; yields their moments in pairs."""
    moments = left.reset(seed), right.reset(seed)
    yield moments
    sample = ActionSampler(left.env, action_seed)
    while moments[0].agents and moments[0].step < n_steps:
        actions = sample(moments[0])
        moments = left.step(actions), right.step(actions)
        yield moments


def episode_fingerprints(
    run: Run, *, seed: int | None, n_steps: int, action_seed: int, infos: bool = False
) -> tuple[str, ...]:
    """One hash per moment of an episode, of all returned values; of infos if `infos`."""
    moments = [run.reset(seed)]
    sample = ActionSampler(run.env, action_seed)
    while moments[-1].agents and moments[-1].step < n_steps:
        moments.append(run.step(sample(moments[-1])))
    skipped = set() if infos else {"infos"}
    return tuple(
        fingerprint(
            [
                [moment.returned[part] for part in moment.returned if part not in skipped],
                moment.agents,
                moment.state,
            ]
        )
        for moment in moments
    )
