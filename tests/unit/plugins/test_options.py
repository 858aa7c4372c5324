"""Options from YAML and the command line, checked against the annotations of a dataclass."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import pytest
from fake_plugins import install
from numpy.typing import NDArray
from pydantic import Field

from malfl_algos.plugins.loading import PluginFault, load_learner
from malfl_algos.plugins.options import coerce_options, option_hints
from malfl_env.errors import InputError

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]


class Number(Enum):
    ONE = 1


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Network:
    """Settings inside settings."""

    width: int = 3
    sizes: tuple[int, ...] = ()
    depth: Literal[1, 2] = 1

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width must be >= 1, got {self.width}")


@dataclass(frozen=True)
class Options:
    """One option of every kind."""

    whole: int = 0
    number: float = 0.0
    text: str = ""
    on: bool = False
    colour: Colour = Colour.RED
    path: Path = Path()
    mode: Literal["quick", "slow"] = "quick"
    network: Network = Network()
    maybe: Network | None = None
    pair: tuple[int, float] = (0, 0.0)
    many: tuple[float, ...] = ()
    paths: tuple[Path, ...] = ()
    listed: list[int] = field(default_factory=list)
    table: dict[str, float] = field(default_factory=dict)
    union: int | Literal["auto"] | None = None
    one: Literal[1, 2] = 1
    ones: tuple[Literal[1, 2], ...] = ()
    sure: Literal[True] = True
    member: Number = Number.ONE
    layers: tuple[Network, ...] = ()
    positive: Annotated[int, Field(gt=0)] = 1
    array: NDArray[np.float64] | None = None
    anything: Any = None

    version: ClassVar[Unknown] = 0


ARRAY = np.zeros(2)
THING = object()


@pytest.mark.parametrize(
    ("key", "given", "taken"),
    [
        ("whole", 10**400, 10**400),
        ("number", 1, 1.0),
        ("text", "1", "1"),
        ("colour", "blue", Colour.BLUE),
        ("colour", Colour.BLUE, Colour.BLUE),
        ("path", "a/b", Path("a/b")),
        ("path", Path("a"), Path("a")),
        ("network", {"width": 5, "sizes": [1, 2]}, Network(5, (1, 2))),
        ("network", Network(4), Network(4)),
        ("maybe", {"width": 5}, Network(5)),
        ("maybe", None, None),
        ("pair", [1, 2], (1, 2.0)),
        ("many", [1, 2.5], (1.0, 2.5)),
        ("many", (0.1,), (0.1,)),
        ("paths", ["a", "b"], (Path("a"), Path("b"))),
        ("paths", [Path("a")], (Path("a"),)),
        ("listed", [1, 2], [1, 2]),
        ("listed", (1, 2), [1, 2]),
        ("table", {"a": 1}, {"a": 1.0}),
        ("union", "auto", "auto"),
        ("union", 3, 3),
        ("one", 2, 2),
        ("ones", [1, 2], (1, 2)),
        ("sure", True, True),
        ("member", 1, Number.ONE),
        ("layers", [{"depth": 2}], (Network(depth=2),)),
        ("positive", 2, 2),
        ("array", ARRAY, ARRAY),
        ("anything", THING, THING),
    ],
)
def test_values_are_converted_to_the_annotated_type(key: str, given: Any, taken: Any) -> None:
    value = coerce_options(Options, {key: given}, where="here")[key]
    assert value is taken or value == taken
    assert type(value) is type(taken)


@pytest.mark.parametrize(
    ("key", "given", "complaint"),
    [
        ("whole", True, "whole must be a whole number, got True"),
        ("whole", 1.0, "whole must be a whole number, got 1.0"),
        ("number", True, "number must be a finite number, got True"),
        ("number", float("inf"), "number must be a finite number, got inf"),
        ("number", 10**400, "number must be a finite number, got 1000"),
        ("number", "0.1", r"number must be a finite number, got '0.1' \(this is text: write"),
        ("text", 1, "text must be text, got 1"),
        ("on", 1, "on must be true or false, got 1"),
        ("colour", "green", "colour must be one of 'red', 'blue', got 'green'"),
        ("colour", "RED", "colour must be one of 'red', 'blue', got 'RED'"),
        ("path", 3, "path must be a path, got 3"),
        ("mode", "quik", "mode must be one of 'quick', 'slow', got 'quik'"),
        ("network", 3, "network must .*got 3"),
        ("network", {"widht": 3}, "network: unknown key 'widht', did you mean 'width'.*sizes"),
        ("network", {"width": "3"}, "network.width must be a valid integer, got '3'"),
        ("network", {"sizes": [1, "x"]}, "network.sizes.1 must be a valid integer, got 'x'"),
        ("network", {"width": 0}, "network: width must be >= 1, got 0"),
        ("pair", [1], r"pair must be a list of 2: a whole number, a finite number, got \[1\]"),
        ("many", 1.0, "many must be a list, each entry a finite number, got 1.0"),
        ("many", ["x"], r"many must be a list, each entry a finite number, got \['x'\]"),
        ("listed", [1.5], r"listed must be a list, each entry a whole number, got \[1.5\]"),
        ("union", 1.5, "union must be a whole number or one of 'auto' or null, got 1.5"),
        ("one", True, "one must be one of 1, 2, got True"),
        ("one", 1.0, "one must be one of 1, 2, got 1.0"),
        ("ones", [2, True], r"ones must be a list, each entry one of 1, 2, got \[2, True\]"),
        ("sure", 1, "sure must be one of True, got 1"),
        ("member", True, "member must be one of 1, got True"),
        ("network", {"depth": True}, "network.depth must be one of 1, 2, got True"),
        ("layers", [{"depth": True}], "layers must be a list, .*, got .*'depth': True"),
        ("positive", 0, "positive must be greater than 0, got 0"),
        ("array", [1.0], r"array must be .*ndarray.* or null, got \[1.0\]"),
        ("wole", 1, "unknown key 'wole', did you mean 'whole'"),
    ],
)
def test_a_wrong_value_is_rejected_in_one_line(key: str, given: Any, complaint: str) -> None:
    with pytest.raises(InputError, match=f"^here: {complaint}") as caught:
        coerce_options(Options, {key: given}, where="here")
    assert "\n" not in str(caught.value)
    assert "pydantic" not in str(caught.value)


@dataclass(frozen=True)
class Unreadable:
    """An option of a type that exists for type checkers only."""

    first: int = 0
    thing: Unknown | None = None


def test_an_annotation_that_cannot_be_evaluated_names_its_option():
    with pytest.raises(InputError, match=r"option 'thing' .*'Unknown \| None'.*NameError"):
        option_hints(Unreadable)


@dataclass(frozen=True)
class Untyped:
    """An option whose annotation is not a type."""

    thing: 3 = 0  # type: ignore[valid-type]


@dataclass(frozen=True)
class UntypedInside:
    """The same one level deeper."""

    thing: tuple[3, ...] = ()  # type: ignore[valid-type]


@pytest.mark.parametrize("cls", [Untyped, UntypedInside])
def test_an_annotation_that_is_not_a_type_names_its_option(cls):
    with pytest.raises(InputError, match=r"option 'thing' whose annotation .*3.* (is not|cannot)"):
        option_hints(cls)


@dataclass(frozen=True)
class Odd:
    """An option whose annotation pydantic rejects."""

    thing: Annotated[int, Field(discriminator="kind")] = 0


def test_an_annotation_that_pydantic_rejects_names_its_option():
    with pytest.raises(InputError, match=r"Odd: option 'thing' .* which pydantic cannot"):
        coerce_options(Odd, {}, where="here")


def test_an_annotation_that_cannot_be_evaluated_names_its_plugin(tmp_path, monkeypatch):
    (tmp_path / "unreadable_plugin.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\nfrom typing import ClassVar\n"
        "from fake_plugins import FakeLearner\n"
        "@dataclass(frozen=True)\nclass Thing(FakeLearner):\n    mood: Nowhere = None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "unreadable_plugin", raising=False)
    install(tmp_path, monkeypatch, {"malfl.learners": {"moody": "unreadable_plugin:Thing"}})
    with pytest.raises(PluginFault, match=r"learner 'moody' of .* option 'mood' .*'Nowhere'"):
        load_learner("moody", discount=0.5, episodes=1)
