import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from fake_plugins import ENTRIES, FakeLearner, install, install_text

from malfl_algos.contract import Learner, Observer
from malfl_algos.experiments.cell import check_parts
from malfl_algos.experiments.config import ExperimentConfig, merge
from malfl_algos.plugins.discovery import discover
from malfl_algos.plugins.inspection import examine
from malfl_algos.plugins.loading import (
    PIPELINE_OPTIONS,
    PluginError,
    PluginFault,
    find_plugin,
    list_plugins,
    load_learner,
    load_observer,
)
from malfl_env import InputError

MODULE = """
import sys
from dataclasses import dataclass
from typing import ClassVar

@dataclass(frozen=True)
class Base:
    api_version: ClassVar = (2, 7)
    def learn(self, env, *, n_stages, rng): ...
class Good(Base): ...
class Undecorated:
    api_version = (2, 0)
    def learn(self): ...
@dataclass(frozen=True)
class NoMethod:
    api_version: ClassVar = (2, 0)
@dataclass(frozen=True)
class NoVersion:
    def learn(self): ...
class OtherMajor(Base):
    api_version = (1, 0)
class StrangeVersion(Base):
    api_version = "1.0"
class OtherCall(Base):
    def learn(self, env, n_stages, seed): ...
class Static(Base):
    @staticmethod
    def learn(env, *, n_stages, rng): ...
@dataclass
class Thawed:
    api_version: ClassVar = (2, 0)
    def learn(self, env, *, n_stages, rng): ...
@dataclass(frozen=True)
class VersionAsOption:
    api_version: tuple = (2, 0)
    def learn(self, env, *, n_stages, rng): ...
@dataclass(frozen=True)
class Failing(Base):
    def __post_init__(self): raise KeyError("mood")
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


def test_listing_shows_all_plugins_and_imports_none(tmp_path, monkeypatch, module):
    _learners(tmp_path, monkeypatch, good=f"{module}:Good", broken="no_such_module:Thing")
    own = [plugin for plugin in list_plugins() if plugin.distribution == "fakes"]
    assert [(p.kind, p.name, p.value, p.version) for p in own] == [
        ("learner", "broken", "no_such_module:Thing", "1.2"),
        ("learner", "good", f"{module}:Good", "1.2"),
    ]
    assert module not in sys.modules


def test_listing_leaves_no_trace_of_an_import(tmp_path, monkeypatch):
    """The plugin here would write a file and end the process."""
    (tmp_path / "loud_plugin.py").write_text(
        f"open({str(tmp_path / 'imported')!r}, 'w').close()\nimport os; os._exit(3)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    _learners(tmp_path, monkeypatch, loud="loud_plugin:Thing")
    before = set(sys.modules)
    assert "loud" in [plugin.name for plugin in list_plugins()]
    assert set(sys.modules) == before
    assert load_learner("ma-spi", discount=0.5, temperature=1.0)
    assert not (tmp_path / "imported").exists()


BAD_LINE = b"""[malfl.learners]
good = {module}:Good
no equals sign
= {module}:Good
"""


def test_a_line_that_is_no_entry_hides_nothing_else(tmp_path, monkeypatch, module):
    text = BAD_LINE.replace(b"{module}", module.encode())
    install_text(tmp_path, monkeypatch, text, name="sloppy")
    _learners(tmp_path, monkeypatch, name="others", fine=f"{module}:Good")
    own = {plugin.name: plugin for plugin in list_plugins() if plugin.distribution == "sloppy"}
    assert own["good"].malformed is None
    assert "malformed name 'no equals sign'" in str(own["no equals sign"].malformed)
    assert "malformed name ''" in str(own[""].malformed)
    assert load_learner("good")
    assert load_learner("fine")
    with pytest.raises(
        PluginError, match=r"'no equals sign' of distribution 'sloppy' 1.2: malform"
    ):
        load_learner("no equals sign")


def test_a_file_that_cannot_be_read_hides_nothing_else(tmp_path, monkeypatch, module):
    install_text(tmp_path, monkeypatch, b"[malfl.learners]\ngood = \xff", name="garbled")
    _learners(tmp_path, monkeypatch, name="others", fine=f"{module}:Good")
    plugins, (fault,) = discover()
    assert str(fault).startswith("distribution 'garbled' 1.2: entry_points.txt: ")
    assert "garbled" not in {plugin.distribution for plugin in plugins}
    assert load_learner("fine")


def test_one_distribution_found_twice_is_no_clash(tmp_path, monkeypatch, module):
    """Once installed, and once as egg-info in the checkout in which the command runs."""
    _learners(tmp_path, monkeypatch, name="malfl_Thing", good=f"{module}:Good")
    info = tmp_path / "checkout" / "malfl_thing.egg-info"
    info.mkdir(parents=True)
    (info / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: malfl-thing\nVersion: 1.3\n")
    (info / "entry_points.txt").write_text(f"[malfl.learners]\ngood = {module}:Good\n")
    monkeypatch.syspath_prepend(tmp_path / "checkout")
    assert [plugin.version for plugin in list_plugins() if plugin.name == "good"] == ["1.3"]
    for spelling in ("malfl-thing", "Malfl_Thing", "malfl.thing"):
        assert load_learner(f"{spelling}:good")


def test_one_name_twice_in_one_distribution(tmp_path, monkeypatch, module):
    text = f"[malfl.learners]\ntwin = {module}:Good\ntwin = {module}:Base\n"
    install_text(tmp_path, monkeypatch, text.encode())
    with pytest.raises(PluginError, match=r"'twin' of distribution 'fakes' 1.2 has two entries"):
        load_learner("twin")


def test_a_person_may_interrupt_an_import(tmp_path, monkeypatch):
    (tmp_path / "slow_import.py").write_text("raise KeyboardInterrupt")
    monkeypatch.syspath_prepend(tmp_path)
    _learners(tmp_path, monkeypatch, slow="slow_import:Thing")
    with pytest.raises(KeyboardInterrupt):
        load_learner("slow")


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
    with pytest.raises(PluginError, match=r"'fakes' 1.2 and 'others' 1.2: write 'fakes:good' or"):
        load_learner("good")
    assert type(load_learner("fakes:good")).__name__ == "Good"
    with pytest.raises(ValueError, match="unknown learner 'nobody:good'"):
        load_learner("nobody:good")
    with pytest.raises(ValueError, match="did you mean 'others:good'"):
        load_learner("other:good")


def test_names_of_malfl_env_are_its_own_whatever_else_is_installed(tmp_path, monkeypatch, module):
    """A foreign distribution with these names disabled them everywhere."""
    taken = {"ma-lfl": f"{module}:Good", "ma-lfl-bellman": f"{module}:Good"}
    own = {"malfl.learners": {"ma-spi": f"{module}:Good"}, "malfl.observers": taken}
    install(tmp_path, monkeypatch, own, name="aaa-foreign")
    assert find_plugin("learner", "ma-spi").distribution == "malfl-env"
    assert find_plugin("observer", "ma-lfl").distribution == "malfl-env"
    assert type(load_learner("aaa-foreign:ma-spi")).__name__ == "Good"


def test_a_clash_is_resolved_in_a_configuration(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch)
    install(tmp_path, monkeypatch, ENTRIES, name="Other_Fakes")
    wanted = {"learner": "fakes:fake", "observers": ["other-fakes:counting"], "seeds": [0]}
    found = check_parts(merge(ExperimentConfig(), wanted))
    assert [(config.label, plugin.distribution) for config, plugin in found] == [
        ("fake", "fakes"),
        ("counting", "Other_Fakes"),
    ]
    with pytest.raises(PluginError, match=r"observer name 'counting' is used by 'Other_Fakes' 1.2"):
        check_parts(merge(ExperimentConfig(), {**wanted, "observers": ["counting"]}))


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ("raise KeyError('boom')", KeyError),
        ("import sys; sys.exit('gone')", SystemExit),
        ("class Odd(BaseException): ...\nraise Odd", BaseException),
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
        ("{module}:NoMethod", r"has no method 'learn'\(self, env, \*, n_stages, rng\)"),
        (
            "{module}:OtherCall",
            r"learn\(self, env, n_stages, seed\) cannot be called as learn\(self, env, \*, n_stages"
            r", rng\): missing a required argument: 'seed'",
        ),
        ("{module}:Static", "learn must be a plain method, not a staticmethod"),
        ("{module}:Thawed", "must be a frozen dataclass"),
        ("{module}:VersionAsOption", "has api_version among its options"),
        ("{module}:NoVersion", "api_version must be a pair of whole numbers.*got None"),
        ("{module}:StrangeVersion", "api_version must be a pair"),
        ("{module}:OtherMajor", r"is written for API version 1.0, malfl-env has 2.0"),
    ],
)
def test_an_object_that_is_no_plugin_is_rejected(tmp_path, monkeypatch, module, value, complaint):
    _learners(tmp_path, monkeypatch, bad=value.format(module=module), good=f"{module}:Good")
    with pytest.raises(PluginError, match=f"learner 'bad' of distribution 'fakes'.*{complaint}"):
        load_learner("bad")
    assert load_learner("good")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"scal": 2.0}, "unknown key 'scal', did you mean 'scale'"),
        ({"api_version": (2, 0)}, "unknown key 'api_version'"),
        ({"scale": "2"}, "scale must be a finite number, got '2' .this is text"),
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


def test_other_failures_in_a_plugin_name_it(tmp_path, monkeypatch, module):
    _learners(tmp_path, monkeypatch, failing=f"{module}:Failing")
    with pytest.raises(PluginError, match=r"'failing' of .* failed to start: KeyError: 'mood'"):
        load_learner("failing")


@pytest.mark.parametrize(
    ("name", "requires", "advice"),
    [
        (
            "no_such_thing",
            ["numpy>=1", "no-such-thing>=2.8; python_version>'3'"],
            r"'fakes' requires no-such-thing>=2.8: pip install \"no-such-thing>=2.8\"",
        ),
        (
            "no_such_thing",
            ["no-such-thing; extra == 'deep'"],
            r"'fakes' requires no-such-thing: pip install \"fakes\[deep\]\"",
        ),
        (
            "no_such_thing.part",
            ["py-thing"],
            r"'fakes' requires py-thing: pip install \"py-thing\"",
        ),
        ("no_such_thing", ["numpy"], "no requirement of 'fakes' provides the module"),
        ("needing.inner", [], "its own module is missing: install 'fakes' again"),
    ],
)
def test_a_missing_module_names_what_to_install(tmp_path, monkeypatch, name, requires, advice):
    (tmp_path / "needing.py").write_text(f"import {name}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "needing", raising=False)
    entries = {"malfl.learners": {"needing": "needing:Thing"}}
    install(tmp_path, monkeypatch, entries, requires=requires)
    with pytest.raises(PluginError, match=f"failed to import: ModuleNotFoundError: .*{advice}"):
        load_learner("needing")


def test_a_missing_extra_is_no_fault(tmp_path, monkeypatch, capsys):
    (tmp_path / "needing.py").write_text("import no_such_thing\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "needing", raising=False)
    entries = {"malfl.learners": {"needing": "needing:Thing"}}
    install(tmp_path, monkeypatch, entries, requires=["no-such-thing; extra == 'deep'"])
    (needing,) = [plugin for plugin in list_plugins() if plugin.name == "needing"]
    finding = examine(needing, [needing])
    assert (finding.state, finding.traceback) == ("absent", None)
    assert 'pip install "fakes[deep]"' in finding.notes[0]


def test_an_unknown_name_of_our_other_distributions_says_how_to_install_them(monkeypatch):
    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("malfl_algos.plugins.discovery.distribution", absent)
    with pytest.raises(ValueError, match=r"'sb3-ppo': it is part of malfl-sb3: pip install"):
        find_plugin("learner", "sb3-ppo")
    monkeypatch.setattr("malfl_algos.plugins.discovery.distribution", lambda name: object())
    with pytest.raises(ValueError, match=r"unknown learner 'sb3-pqo'.*installed: "):
        find_plugin("learner", "sb3-pqo")


def test_without_any_plugin_the_message_says_to_install_malfl_env(monkeypatch):
    monkeypatch.setattr("malfl_algos.plugins.loading.discover", lambda: ([], []))
    with pytest.raises(
        ValueError, match=r"no observers are installed, not even.*pip install malfl-env"
    ):
        find_plugin("observer", "ma-lfl")


def test_the_pipeline_fills_in_all_pipeline_options(tmp_path, monkeypatch):
    fields = "".join(f"    {name}: {type(v).__name__}\n" for name, v in PIPELINE_OPTIONS.items())
    (tmp_path / "greedy_plugin.py").write_text(
        "from dataclasses import dataclass\nfrom typing import ClassVar\n"
        f"@dataclass(frozen=True)\nclass Greedy:\n{fields}"
        "    api_version: ClassVar[tuple[int, int]] = (2, 0)\n"
        "    def learn(self, env, *, n_stages, rng): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    install(tmp_path, monkeypatch, ENTRIES | {"malfl.learners": {"greedy": "greedy_plugin:Greedy"}})
    config = merge(ExperimentConfig(), {"learner": "greedy", "observers": ["counting"]})
    assert check_parts(config)


@pytest.mark.parametrize(
    ("raised", "expected", "words"),
    [
        ("InputError('3 states at most')", InputError, "observer 'picky': 3 states at most"),
        ("ValueError('shapes')", PluginFault, "observer 'picky': check_size failed: .*shapes"),
    ],
)
def test_only_an_input_error_of_check_size_rejects_a_game(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: str, expected: type, words: str
) -> None:
    (tmp_path / "picky_plugin.py").write_text(
        "from malfl_env import InputError\nfrom fake_plugins import CountingObserver\n"
        "class Picky(CountingObserver):\n"
        f"    def check_size(self, n_states, n_actions, n_stages): raise {raised}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "picky_plugin", raising=False)
    install(tmp_path, monkeypatch, {"malfl.observers": {"picky": "picky_plugin:Picky"}})
    with pytest.raises(expected, match=words) as caught:
        check_parts(merge(ExperimentConfig(), {"observers": ["picky"]}))
    assert type(caught.value) is expected
