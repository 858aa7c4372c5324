"""Arguments are checked against annotations: what passes, what becomes of it, what is rejected."""

from __future__ import annotations

import inspect
import pickle
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from malfl_env import InputError
from malfl_env.arguments import Count, Discount, Index, Temperature, typed


@typed
def function(
    whole: int = 0,
    number: float = 0.0,
    *,
    truth: bool = False,
    text: str | None = None,
    place: str | Path = "",
    numbers: NDArray[np.float64] = np.zeros(1),  # noqa: B008
    counts: NDArray[np.int64] = np.zeros(1, int),  # noqa: B008
    mask: NDArray[np.bool_] = np.zeros(1, bool),  # noqa: B008
    cells: tuple[int, ...] = (),
    pairs: Sequence[tuple[int, int]] = (),
    tables: Mapping[str, NDArray[np.float64]] | None = None,
    word: Literal["a", "b"] = "a",
    rule: Callable[[int], int] | None = None,
    many: Iterable[int] = (),
    anything: Any = None,
    discount: Discount = 0.5,
    temperature: Temperature = 1.0,
    index: Index = 0,
    count: Count = 1,
    rng: np.random.Generator | None = None,
    **options: Any,
) -> dict[str, Any]:
    return dict(locals())


ONES = np.ones((2, 3))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("whole", 3),
        ("whole", np.int8(3)),
        ("number", 3),
        ("number", np.float32(0.5)),
        ("truth", np.True_),
        ("text", "x"),
        ("place", Path("x")),
        ("numbers", ONES),
        ("numbers", ONES.astype(int)),
        ("counts", np.zeros((0, 2), np.uint8)),
        ("cells", (1, 2)),
        ("pairs", [(1, 2)]),
        ("tables", {"a": ONES}),
        ("word", "b"),
        ("rule", abs),
        ("anything", object),
        ("discount", 0),
        ("temperature", 0.0),
        ("rng", np.random.default_rng(0)),
        ("more", object),
    ],
)
def test_a_value_of_the_right_type_is_passed_on_as_it_is(name: str, value: Any) -> None:
    given = function(**{name: value})
    assert (given["options"] if name == "more" else given)[name] is value


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("whole", True, "whole must be a whole number, got True"),
        ("whole", 3.0, "whole must be a whole number, got 3.0"),
        ("number", float("nan"), "number must be a number, got nan"),
        ("number", 10**400, "number must be a number, got 1000"),
        ("truth", 1, "truth must be true or false, got 1"),
        ("text", b"x", "text must be text or None, got b'x'"),
        ("place", 3, "place must be text or a path, got 3"),
        ("numbers", [[1, 2], [3]], "numbers must be an array of numbers"),
        ("numbers", np.array(1.0), "numbers must be an array of numbers"),
        ("counts", [0.5], "counts must be an array of whole numbers"),
        ("mask", [0, 1], "mask must be an array of true and false"),
        ("cells", "ab", "cells must be a list of a whole number, got 'ab'"),
        ("cells", [1, "b"], "cells must be a list of a whole number"),
        ("pairs", [3], "pairs must be a list of a tuple"),
        ("tables", [ONES], "tables must be a mapping to an array of numbers or None"),
        ("tables", {"a": "x"}, "tables must be a mapping to an array of numbers or None"),
        ("word", "c", "word must be one of 'a', 'b', got 'c'"),
        ("rule", 3, "rule must be a function or None, got 3"),
        ("many", {1: 2}, "many must be a list of a whole number"),
        ("discount", 1.0, r"discount must be a number in \[0, 1\), got 1.0"),
        ("temperature", -1.0, "temperature must be a number >= 0, got -1.0"),
        ("index", -1, "index must be a whole number >= 0, got -1"),
        ("count", 0, "count must be a whole number >= 1, got 0"),
        ("rng", 3, "rng must be a Generator or None, got 3"),
    ],
)
def test_a_value_of_a_wrong_type_is_rejected_by_name(name: str, value: Any, words: str) -> None:
    with pytest.raises(InputError, match=f"^{words}"):
        function(**{name: value})


def test_lists_become_what_is_annotated() -> None:
    given = function(3, numbers=[[1, 2]], cells=np.array([1, 2]), many=iter([1, 2]))
    assert given["numbers"].tolist() == [[1, 2]]
    assert given["cells"] == (1, 2)
    assert given["many"] == [1, 2]
    assert given["whole"] == 3
    tables = function(tables={"a": [1.0], "b": ONES})["tables"]
    assert tables["a"].tolist() == [1.0]
    assert tables["b"] is ONES


def test_positional_arguments_are_checked_too() -> None:
    with pytest.raises(InputError, match="number must be a number, got 'x'"):
        function(1, "x")
    with pytest.raises(TypeError, match="takes from 0 to 2 positional arguments"):
        function(*range(3))  # type: ignore[misc]


@typed
@dataclass(frozen=True)
class Box:
    width: int
    names: tuple[str, ...] = ()
    inside: Mapping[str, Box] = field(default_factory=dict)


def test_constructors() -> None:
    box = Box(3, ["a"], {"b": Box(1)})  # type: ignore[arg-type]
    assert box.names == ("a",)
    assert box == pickle.loads(pickle.dumps(box))
    for given, words in (({"width": "x"}, "width must be"), ({"inside": {"b": 3}}, "inside must")):
        with pytest.raises(InputError, match=words):
            Box(**{"width": 1, **given})  # type: ignore[arg-type]


def test_name_signature_and_documentation_stay() -> None:
    assert function.__name__ == "function"
    assert next(iter(inspect.signature(function).parameters)) == "whole"
    assert list(inspect.signature(Box).parameters) == ["width", "names", "inside"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="`type X = ...` is Python 3.12")
def test_named_types_are_what_they_name() -> None:
    """NumPy 2.5 makes `NDArray` such a name, with an argument."""
    names: dict[str, Any] = {}
    exec("type Whole = int | None\ntype List[T] = tuple[T, ...]", names)

    def sized(size, cells):
        return size, cells

    sized.__annotations__ = {"size": names["Whole"], "cells": names["List"][int]}
    assert typed(sized)(3, [1, 2]) == (3, (1, 2))
    with pytest.raises(InputError, match="size must be a whole number or None, got 'a'"):
        typed(sized)("a", ())
    with pytest.raises(InputError, match="cells must be a list of a whole number"):
        typed(sized)(None, ["a"])
