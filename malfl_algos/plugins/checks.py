"""What a class must be to serve as a learner or an observer."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from malfl_algos.contract import API_VERSION, Learner, Observer
from malfl_algos.plugins.discovery import Kind
from malfl_algos.plugins.options import option_hints
from malfl_env.errors import InputError

__all__ = ["PIPELINE_OPTIONS", "check_plugin_class", "unfillable_options"]

PIPELINE_OPTIONS: Mapping[str, Any] = {
    "discount": 0.9,
    "temperature": 3.0,
    "episodes": 3,
    "episode_length": 10,
    "seed": 0,
    "keep_transitions": False,
}
"""Options that an experiment fills in where they are not given, with values to try them."""

_METHODS: dict[Kind, Any] = {"learner": Learner.learn, "observer": Observer.recover}


def check_plugin_class(cls: Any, kind: Kind) -> None:
    """Compare a loaded object with the protocol of its kind.

    Raises:
        InputError: saying what is missing: a frozen dataclass, options whose annotations can be
            evaluated, an API version of our major, the method of its kind, callable as the protocol
            calls it. The message continues the name of the object.
    """
    if not (isinstance(cls, type) and is_dataclass(cls)):
        raise InputError(f"must be a dataclass, it is {cls!r}")
    if not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise InputError("must be a frozen dataclass: write @dataclass(frozen=True)")
    _check_api_version(cls)
    method = _METHODS[kind]
    own = inspect.getattr_static(cls, method.__name__, None)
    if not callable(getattr(cls, method.__name__, None)):
        raise InputError(f"has no method {method.__name__!r}{_signature(method)}")
    if isinstance(own, (staticmethod, classmethod)):
        raise InputError(f"{method.__name__} must be a plain method, not a {type(own).__name__}")
    _check_call(getattr(cls, method.__name__), method)
    option_hints(cls)


def unfillable_options(cls: Any) -> list[str]:
    """Options without a default that an experiment does not fill in either."""
    signature = inspect.signature(cls)
    return [
        name
        for name, parameter in signature.parameters.items()
        if parameter.default is parameter.empty and name not in PIPELINE_OPTIONS
    ]


def _check_api_version(cls: type) -> None:
    stated = getattr(cls, "api_version", None)
    if not (
        isinstance(stated, tuple) and len(stated) == 2 and all(type(part) is int for part in stated)
    ):
        raise InputError(
            f"api_version must be a pair of whole numbers like {API_VERSION}, got {stated!r}"
        )
    if stated[0] != API_VERSION[0]:
        wanted = ".".join(map(str, API_VERSION))
        change = "install a matching version of one of the two"
        if stated[0] == 1:
            change += (
                "; its author has to yield LearnedStage(Stage(...), StageTruth(policies)) from "
                "learn, to begin recover with Problem(...), and to set api_version to (2, 0)"
            )
        raise InputError(
            f"is written for API version {stated[0]}.{stated[1]}, this is {wanted}: {change}"
        )
    if any(field.name == "api_version" for field in fields(cls)):
        raise InputError(
            "has api_version among its options: annotate it as ClassVar[tuple[int, int]]"
        )


def _check_call(method: Any, protocol: Any) -> None:
    """Try to bind the arguments of the protocol, without calling."""
    try:
        signature = inspect.signature(method)
    except ValueError:  # compiled code does not always tell
        return
    parameters = inspect.signature(protocol).parameters.values()
    by_place = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
    by_name = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    try:
        signature.bind(*by_place, **dict.fromkeys(by_name))
    except TypeError as fault:
        raise InputError(
            f"{method.__name__}{signature} cannot be called as {protocol.__name__}"
            f"{_signature(protocol)}: {fault}"
        ) from None


def _signature(method: Any) -> str:
    """The parameters of a method by name alone."""
    signature = inspect.signature(method)
    bare = [
        parameter.replace(annotation=parameter.empty) for parameter in signature.parameters.values()
    ]
    return str(inspect.Signature(bare))
