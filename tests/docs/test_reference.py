"""The reference: every public name has a page and a docstring, every observer a true row."""

from __future__ import annotations

import importlib
import re
from configparser import ConfigParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from malfl_algos import LearningTrace
from malfl_algos.plugins import load_learner, load_observer
from malfl_env import InputError, grid_world_v0, markov_game

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
API = sorted(path.stem for path in (REFERENCE / "api").glob("malfl_*.md"))
ARCHITECTURE = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
PAGE = (REFERENCE / "observers.md").read_text(encoding="utf-8")
ROWS = {
    name: [cell.strip() for cell in line.split("|")[3:8]]
    for line in PAGE.splitlines()
    if line.startswith("| `")
    for name in re.findall(r"`([\w-]+)`", line.split("|")[1])
}
"""Of the table: steps in order, unknown game, unknown discount, unknown temperature, sd."""
IID = {"prior": "iid", "improvement": 0.0}
QUICKER = {
    "ma-lfl-bellman": {"learner": "exact", "stages": "same", **IID},
    "ma-lfl-replay": {"stages": "same", "step_size": 0.1, **IID},
    "ma-lfl-history": IID,
}
SCALE = {"discount": 0.9, "temperature": 1.0}


def documented(module: str) -> set[str]:
    """The names that the page of a module describes."""
    page = (REFERENCE / "api" / f"{module}.md").read_text(encoding="utf-8")
    assert f".. automodule:: {module}\n   :members:\n" in page
    left_out = re.findall(r":exclude-members: (.*)", page)
    names = set(importlib.import_module(module).__all__)
    return names - set(", ".join(left_out).split(", "))


def test_every_public_module_has_a_page():
    public = re.search(r"These modules are public:(.*?)\. Every other", ARCHITECTURE, re.DOTALL)
    assert public is not None
    named = set(re.findall(r"`([\w.]+)`", public[1]))
    # its names are those of malfl_env
    assert named - {"malfl_env.markov_game"} <= set(API)
    index = (REFERENCE / "api" / "index.md").read_text(encoding="utf-8")
    for module in API:
        assert f"[{module}]({module}.md)" in index
        assert f"\n{module}\n" in index  # of the tree of pages


@pytest.mark.parametrize("module", API)
def test_every_public_name_is_described_once_and_has_a_docstring(module):
    owner = importlib.import_module(module)
    for name in owner.__all__:
        value = getattr(owner, name)
        pages = [own for own in API if name in documented(own)]
        same = [own for own in pages if getattr(importlib.import_module(own), name) is value]
        assert len(same) == 1 or f"{module}.{name}" in API, (name, same)
        if callable(value) and value.__module__.startswith("malfl"):
            assert value.__doc__, name


def test_every_observer_has_a_row_and_its_options():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    entries = setup["options.entry_points"]["malfl.observers"].split("\n")
    plugins = dict(entry.split(" = ") for entry in entries if entry)
    assert set(ROWS) == set(plugins)
    for place in plugins.values():
        assert f".. autoclass:: {place.replace(':', '.')}\n" in PAGE


def test_every_learner_has_its_options():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    page = (REFERENCE / "learners.md").read_text(encoding="utf-8")
    entries = setup["options.entry_points"]["malfl.learners"].split("\n")
    for name, place in (entry.split(" = ") for entry in entries if entry):
        assert f"| `{name}` |" in page
        assert f".. autoclass:: {place.replace(':', '.')}\n" in page


@pytest.fixture(scope="module")
def traces() -> dict[bool, LearningTrace]:
    """Of the same learners, with and without ordered steps."""
    env = grid_world_v0.parallel_env(size=2)
    made = {}
    for kept in (True, False):
        size = {"episodes": 10, "episode_length": 20, "keep_transitions": kept}
        stages = load_learner("ma-spi", **SCALE, **size).learn(
            env, n_stages=3, rng=np.random.default_rng(0)
        )
        made[kept] = LearningTrace(tuple(stage.observed for stage in stages))
    return made


def rejects(name: str, trace: LearningTrace, **given: Any) -> bool:
    game = markov_game(grid_world_v0.parallel_env(size=2)).without_rewards()
    try:
        load_observer(name, **QUICKER.get(name, {})).recover(
            trace, **{"game": game, **SCALE, **given}
        )
    except InputError as fault:
        if not re.search("must be given|needs the ordered transitions", str(fault)):
            raise
        return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_what_an_observer_needs_is_as_its_row_says(name, traces):
    if name == "ma-lfl-network" and find_spec("torch") is None:
        pytest.skip("needs torch")
    steps, game, discount, temperature, _ = ROWS[name]
    assert rejects(name, traces[False]) == (steps == "yes")
    for entry, given in ((game, "game"), (discount, "discount"), (temperature, "temperature")):
        assert rejects(name, traces[True], **{given: None}) == (entry == "rejected"), given
