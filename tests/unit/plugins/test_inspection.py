"""Descriptions of options, from the fields of a plugin's dataclass."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import pytest
from own_plugins import own_plugins

from malfl_algos.plugins.inspection import describe_options, option_help
from malfl_algos.plugins.loading import Plugin, find_plugin, plugin_class


@dataclass(frozen=True)
class Base:
    """The base.

    Args:
        first: from the Args
            section, over two lines.
        second: to be replaced.
    """

    first: int
    second: float = 0.5
    derived: float = field(init=False, default=0.0)

    api_version: ClassVar[tuple[int, int]] = (2, 0)


@dataclass(frozen=True)
class Child(Base):
    """A child of it,
    in two lines.

    And more, which help does not show.
    """

    second: float = 0.25
    """From the text below the field."""
    mode: Literal["quick", "slow"] = "quick"
    """How."""
    sizes: tuple[int, ...] = field(default_factory=lambda: (1, 2))
    """A list."""
    bare: Any = None

    def learn(self, env: Any, *, n_stages: int, rng: Any) -> Any:
        """Nothing."""


PLUGIN = Plugin("learner", "child", f"{__name__}:Child", "malfl-family", "2.0")


def test_every_option_with_type_default_and_documentation():
    described = [
        (option.name, option.allowed, option.default, option.documentation)
        for option in describe_options(Child)
    ]
    assert described == [
        ("first", "a whole number", None, "from the Args section, over two lines."),
        ("second", "a finite number", "0.25", "From the text below the field."),
        ("mode", "one of 'quick', 'slow'", "'quick'", "How."),
        ("sizes", "a list, each entry a whole number", "[1, 2]", "A list."),
        ("bare", "any value", "null", ""),
    ]


def test_the_text(monkeypatch):
    monkeypatch.setattr("malfl_algos.plugins.inspection.plugin_class", lambda plugin: Child)
    text = option_help(PLUGIN)
    assert text.startswith("options of learner 'child' (malfl-family 2.0), as --option KEY=VALUE")
    assert "  A child of it, in two lines.\n" in text
    assert "And more" not in text
    assert "  first: a whole number (required)\n      from the Args section" in text
    assert "  mode: one of 'quick', 'slow' (default: 'quick')\n      How." in text
    assert "  bare: any value (default: null)\n      (not documented)" in text


def test_help_marks_options_that_an_experiment_fills_in():
    text = option_help(find_plugin("learner", "ma-spi"))
    assert "discount: a finite number (default: the experiment's)" in text
    assert "step_size: a finite number (default: 0.1)" in text


@pytest.mark.parametrize("plugin", own_plugins(), ids=lambda plugin: plugin.name)
def test_every_option_of_ours_is_documented(plugin):
    for option in describe_options(plugin_class(plugin)):
        assert option.documentation, option.name
        assert option.allowed != "any value" or option.name == "features"
