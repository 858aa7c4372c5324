"""The plugin under test: how an instance is made, and how its methods are called."""

from __future__ import annotations

import inspect
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from malfl_algos.plugins.discovery import Kind
from malfl_algos.plugins.inspection import describe_options
from malfl_algos.plugins.loading import (
    PIPELINE_OPTIONS,
    PluginError,
    check_plugin_class,
    find_plugin,
    plugin_class,
)
from malfl_algos.plugins.options import coerce_options, option_hints
from malfl_algos.plugins.results import Breach
from malfl_env.checks import shown
from malfl_env.testing.protocol import fail
from malfl_env.testing.run import global_random_state, restore_global_random_state
from malfl_env.testing.values import difference, snapshot

__all__ = [
    "ERRORS",
    "Check",
    "Subject",
    "evaluated",
    "guarded",
    "kept_contract",
    "kept_random_state",
    "parts",
    "subject_of",
    "unsettle",
]


ERRORS = (Exception, SystemExit, GeneratorExit)
"""Whatever a plugin may raise; Ctrl-C is passed on."""
Check = tuple[str, Callable[[], Any]]
"""A name, and a function that raises an AssertionError if the plugin fails the check."""


@dataclass(frozen=True)
class Subject:
    """A plugin under test.

    Args:
        kind: "learner" or "observer".
        name: for messages.
        make: takes options by name, returns the learner or the observer.
        options: those given to the check, and those that an experiment fills in.
        known: names of all its options.
    """

    kind: Kind
    name: str
    make: Callable[..., Any]
    options: Mapping[str, Any]
    known: frozenset[str]

    def build(self, **changed: Any) -> Any:
        """A new learner or observer."""
        options = {**self.options, **changed}
        return guarded(lambda: self.make(**options), f"{self.name} with options {shown(options)}")


def subject_of(
    plugin: str | Callable[..., Any],
    kind: Kind,
    options: Mapping[str, Any] | None,
    filled: Mapping[str, Any],
) -> Subject:
    """The plugin under test, after all checks that need no run.

    Args:
        plugin: name of an installed plugin, a plugin class, or a function of the options.
        kind: "learner" or "observer".
        options: the given options.
        filled: values of options that an experiment fills in; `options` override them.

    Raises:
        AssertionError: for an object that is not a plugin, or an option without documentation.
        InputError: for an unknown name or option, or a value of the wrong type.
    """
    given = dict(options or {})
    if isinstance(plugin, str):
        name = f"{kind} {plugin!r}"
        try:
            target: Any = plugin_class(find_plugin(kind, plugin))
        except PluginError as fault:
            raise AssertionError(f"not a plugin: {fault}") from fault
    else:
        target, name = plugin, f"{kind} {getattr(plugin, '__name__', repr(plugin))}"
    if isinstance(target, type):
        try:
            check_plugin_class(target, kind)
        except ValueError as fault:
            raise AssertionError(f"not a plugin: {target.__qualname__} {fault}") from fault
        _check_documentation(target)
        given = coerce_options(target, given, where=name)
        known = frozenset(option_hints(target))
    else:
        known = frozenset(inspect.signature(target).parameters)
    standard = {**PIPELINE_OPTIONS, **filled}
    wanted = {key: value for key, value in standard.items() if key in known}
    return Subject(kind, name, target, {**wanted, **given}, known)


def _check_documentation(cls: type) -> None:
    for option in describe_options(cls):
        if not option.documentation:
            where = "write a text below the field, or an entry in the Args section of the class"
            fail("option without documentation", where, f"{cls.__qualname__}.{option.name}")


def guarded(call: Callable[[], Any], where: str) -> Any:
    """The result of a call of the plugin, which must neither raise nor use global randomness."""
    before = _random_state()
    try:
        result = call()
    except ERRORS as error:
        raise AssertionError(f"call raised: {type(error).__name__}: {error} ({where})") from error
    for library, state in _random_state().items():
        if library in before and difference(before[library], state):
            fail("global random state touched", where, f"the global generator of {library} moved")
    return result


@contextmanager
def kept_contract(where: str) -> Iterator[None]:
    """A breach of the contract is a failed check."""
    try:
        yield
    except Breach as breach:
        fail(breach.fault, where, breach.detail)


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Leave the global generators as they were found."""
    before, torch = global_random_state(), sys.modules.get("torch")
    torch_state = torch.get_rng_state() if torch is not None else None
    try:
        yield
    finally:
        restore_global_random_state(before)
        if torch is not None:
            torch.set_rng_state(torch_state)


def unsettle(seed: int) -> None:
    """Change the state of the global generators, so that results of their use change."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)


def parts(value: Any) -> Any:
    """A copy of plain containers and arrays; a dataclass becomes the mapping of its fields."""
    if is_dataclass(value) and not isinstance(value, type):
        own = (field.name for field in fields(value) if field.name != "functions")
        return {name: parts(getattr(value, name)) for name in own}
    if isinstance(value, Mapping):
        return {key: parts(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [parts(item) for item in value]
    return snapshot(value)


def evaluated(result: Any, case: Any) -> Any:
    """A result as `parts`, its reward functions evaluated on the first stage of a case."""
    found = parts(result)
    if isinstance(found, dict):
        found.pop("source", None)  # it restates the arguments
        steps = case.trace.stages[0].transitions
        found["functions"] = {
            agent: result.reward(agent, steps.observations[agent], steps.joint_actions)
            for agent in getattr(result, "functions", None) or {}
        }
    return found


def _random_state() -> dict[str, Any]:
    of_numpy, of_random = global_random_state()
    state = {"numpy": of_numpy, "random": list(of_random[1])}
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_rng_state"):
        state["torch"] = torch.get_rng_state().numpy().copy()
    return state
