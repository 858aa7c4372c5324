"""Recovered rewards in files: the same after a round trip; damage is named."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest

from malfl_algos import RecoveredRewards
from malfl_algos.contract import Source, Verdict
from malfl_algos.storage.arrays import read_arrays, write_arrays
from malfl_env.errors import InputError

SOURCE = Source(
    agents=("alice", "bob"),
    n_actions=(2, 1),
    steps=(5, 6),
    visits=np.array([4, 0, 7]),
    states=(("a", 1), ("b", 2.5), ("c", True)),
    actions=(("go", "stay"), (0,)),
    notes=("stages: every 2 days",),
    discount=0.9,
    observer="tried",
    by_default=("discount",),
)
RESULT = RecoveredRewards(
    rewards={"alice": np.arange(3.0), "bob": np.arange(6.0).reshape(3, 2, 1)},
    diagnostics={"alice": {"rank": 2, "rule_weights": [{"rule": "td", "weight": 0.5}]}},
    estimated_policies={"alice": np.full((2, 3, 2), 0.5)},
    sd={"alice": np.ones(3), "bob": np.ones((3, 2, 1))},
    covariance={"alice": np.eye(3)},
    verdict=Verdict("doubt", ("why",), {"n": 1.5}, ("more",), {"alice": Verdict("believe")}),
    source=SOURCE,
)


def test_a_result_is_the_same_after_a_round_trip(tmp_path):
    RESULT.save(tmp_path / "kept")
    back = RecoveredRewards.load(tmp_path / "kept")
    for name in ("rewards", "estimated_policies", "sd", "covariance"):
        for agent, array in getattr(RESULT, name).items():
            np.testing.assert_array_equal(getattr(back, name)[agent], array)
    assert back.targets is None
    assert back.verdict == RESULT.verdict
    assert dict(back.diagnostics["alice"]) == dict(RESULT.diagnostics["alice"])
    for part in fields(Source):
        np.testing.assert_equal(getattr(back.source, part.name), getattr(SOURCE, part.name))
    assert back.summary() == RESULT.summary()


def test_a_result_with_little_in_it(tmp_path):
    RecoveredRewards({"a": np.zeros(2)}).save(str(tmp_path / "small"))
    back = RecoveredRewards.load(tmp_path / "small")
    assert (back.source, back.sd, back.visited) == (None, None, None)
    games = replace(SOURCE, visits=None, states=None, actions=None)
    replace(RESULT, source=games).save(tmp_path / "small")
    assert RecoveredRewards.load(tmp_path / "small").source.visits is None


def test_functions_are_not_saved_as_tables(tmp_path):
    made = RecoveredRewards(functions={"a": lambda seen, moves: np.zeros(len(seen))})
    with pytest.raises(InputError, match="functions of observations"):
        made.save(tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def damage(folder, name, change):
    """Change a file, and its checksum in `result.json`, so that its content is read."""
    from malfl_algos.storage.durable import file_checksum

    change(folder / name)
    record = json.loads((folder / "result.json").read_text())
    record["files"][name] = file_checksum(folder / name)
    (folder / "result.json").write_text(json.dumps(record))


def change_source(**entries):
    """A change of entries of the manifest of `source.npz`."""

    def change(path):
        arrays, manifest = read_arrays(path)
        write_arrays(path, arrays, manifest={**manifest, **entries})

    return change


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("diagnostics.json", lambda path: path.write_text("[1"), "diagnostics.json: not JSON"),
        ("diagnostics.json", lambda path: path.write_text("[1]"), "must be a mapping of agents"),
        ("source.npz", change_source(agents=["a"]), "agents and n_actions must have one length"),
        ("source.npz", change_source(agents=[1, 2]), "its agents must be texts"),
        ("source.npz", change_source(states=["a"]), "states must have 3 labels, got 1"),
        ("source.npz", change_source(discount="x"), "its discount must be a number or null"),
        ("source.npz", change_source(format="trace"), "source.npz"),
        ("rewards.npz", lambda path: path.write_bytes(b"PK"), "rewards.npz"),
    ],
)
def test_damaged_content_is_named(tmp_path, name, change, words):
    RESULT.save(tmp_path)
    damage(tmp_path, name, change)
    with pytest.raises(InputError, match=words):
        RecoveredRewards.load(tmp_path)


def test_files_of_other_results_are_rejected(tmp_path):
    with pytest.raises(InputError, match=r"it has no result\.json"):
        RecoveredRewards.load(tmp_path)
    RESULT.save(tmp_path)
    write_arrays(tmp_path / "rewards.npz", {"alice": np.zeros(3)})
    with pytest.raises(InputError, match=r"rewards\.npz is not the file that .*result\.json"):
        RecoveredRewards.load(tmp_path)
    (tmp_path / "rewards.npz").unlink()
    with pytest.raises(InputError, match=r"rewards\.npz: cannot be read"):
        RecoveredRewards.load(tmp_path)
