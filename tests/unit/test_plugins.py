import sys
from pathlib import Path
from typing import Any

import pytest
from fake_plugins import FakeLearner, install

from malfl_algos.contract import Learner, Observer
from malfl_algos.plugins import PluginError, list_plugins, load_learner, load_observer

MODULE = """
import sys
from dataclasses import dataclass
from typing import ClassVar

@dataclass(frozen=True)
class Base:
    api_version: ClassVar = (1, 7)
    def learn(self, env, *, n_stages, rng): ...
class Good(Base): ...
class Undecorated:
    api_version = (1, 0)
    def learn(self): ...
@dataclass(frozen=True)
class NoMethod:
    api_version: ClassVar = (1, 0)
@dataclass(frozen=True)
class NoVersion:
    def learn(self): ...
class OtherMajor(Base):
    api_version = (2, 0)
class StrangeVersion(Base):
    api_version = "1.0"
def factory(): ...
"""


def _learners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str = "fakes", **values: str
) -> None:
    install(tmp_path, monkeypatch, {"malfl.learners": values}, name=name)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of plugins, good and bad."""
    name = "plugins_for_test"
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / f"{name}.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def test_listing_tells_everything_and_imports_nothing(tmp_path, monkeypatch, module):
    _learners(tmp_path, monkeypatch, good=f"{module}:Good", broken="no_such_module:Thing")
    own = [plugin for plugin in list_plugins() if plugin.distribution == "fakes"]
    assert [(p.kind, p.name, p.value, p.version) for p in own] == [
        ("learner", "broken", "no_such_module:Thing", "1.2"),
        ("learner", "good", f"{module}:Good", "1.2"),
    ]
    assert module not in sys.modules


def test_loads_by_name_with_options(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch)
    learner = load_learner("fake", discount=0, episodes=3)
    assert isinstance(learner, Learner)
    assert learner == FakeLearner(discount=0.0, episodes=3)
    assert isinstance(learner.discount, float)
    assert isinstance(load_observer("counting", joint=True), Observer)


def test_unknown_name_suggests_the_nearest(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch)
    with pytest.raises(
        ValueError, match=r"unknown observer 'countin', did you mean 'counting'\?.*needy"
    ):
        load_observer("countin")


def test_a_name_is_looked_for_among_its_own_kind_only(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch)
    with pytest.raises(ValueError, match="unknown learner 'counting'"):
        load_learner("counting")


def test_a_clash_names_both_distributions_and_can_be_resolved(tmp_path, monkeypatch, module):
    _learners(tmp_path, monkeypatch, good=f"{module}:Good")
    _learners(tmp_path, monkeypatch, name="others", good=f"{module}:Undecorated")
    with pytest.raises(PluginError, match=r"'fakes' 1.2 and 'others' 1.2: say 'fakes:good' or"):
        load_learner("good")
    assert type(load_learner("fakes:good")).__name__ == "Good"
    with pytest.raises(ValueError, match="unknown learner 'nobody:good'"):
        load_learner("nobody:good")


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ("raise KeyError('boom')", KeyError),
        ("import sys; sys.exit('gone')", SystemExit),
        ("import no_such_module_at_all", ModuleNotFoundError),
        ("x = (", SyntaxError),
        ("", AttributeError),
    ],
)
def test_a_failing_import_names_the_plugin_and_chains_its_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, cause: type[BaseException]
) -> None:
    (tmp_path / "failing_module.py").write_text(body, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "failing_module", raising=False)
    _learners(tmp_path, monkeypatch, broken="failing_module:Thing", fake="fake_plugins:FakeLearner")
    with pytest.raises(
        PluginError, match=r"learner 'broken' of distribution 'fakes' 1.2"
    ) as caught:
        load_learner("broken")
    assert isinstance(caught.value.__cause__, cause)
    assert load_learner("fake", discount=0.5, episodes=1)


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("no colon", "malformed entry 'no colon'"),
        ("{module}", "malformed entry"),
        ("{module}:Good [extra]", "malformed entry"),
        ("{module}:factory", "must be a dataclass"),
        ("{module}:Undecorated", "must be a dataclass"),
        ("{module}:NoMethod", "has no method 'learn'"),
        ("{module}:NoVersion", "api_version must be a pair of whole numbers.*got None"),
        ("{module}:StrangeVersion", "api_version must be a pair"),
        ("{module}:OtherMajor", r"is written for API version 2.0, this is 1.0"),
    ],
)
def test_what_is_no_plugin_is_refused(tmp_path, monkeypatch, module, value, complaint):
    _learners(tmp_path, monkeypatch, bad=value.format(module=module), good=f"{module}:Good")
    with pytest.raises(PluginError, match=f"learner 'bad' of distribution 'fakes'.*{complaint}"):
        load_learner("bad")
    assert load_learner("good")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"scal": 2.0}, "unknown key 'scal', did you mean 'scale'"),
        ({"api_version": (1, 0)}, "unknown key 'api_version'"),
        ({"scale": "2"}, "scale must be a finite number, got '2'.*YAML"),
        ({"scale": True}, "scale must be a finite number, got True"),
        ({"scale": float("nan")}, "scale must be a finite number, got nan"),
        ({"scale": 10**400}, "scale must be a finite number"),
        ({"episodes": 3.0}, "episodes must be a whole number, got 3.0"),
        ({"episodes": True}, "episodes must be a whole number, got True"),
        ({"mode": "wel"}, "mode must be one of 'well', 'short', 'misshapen', got 'wel'"),
        ({"keep_transitions": 1}, "keep_transitions must be true or false, got 1"),
        ({"scale": -1.0}, "learner 'fake': scale must be > 0, got -1.0"),
    ],
)
def test_options_are_checked_against_the_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], complaint: str
) -> None:
    install(tmp_path, monkeypatch)
    with pytest.raises(ValueError, match=complaint):
        load_learner("fake", **{"discount": 0.9, "episodes": 3, **options})


def test_a_required_option_left_out_is_named(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch)
    with pytest.raises(ValueError, match=r"learner 'fake'.*'episodes'"):
        load_learner("fake", discount=0.9)
