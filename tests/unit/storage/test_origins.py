"""Files of one run are known by their hashes, and a command's files appear together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from gymnasium.spaces import Discrete

from malfl_algos.storage.origins import (
    RESULT_NAME,
    Origin,
    files_together,
    game_hash,
    read_result,
    stage_hashes,
    write_result,
)
from malfl_algos.trace import LearningTrace, Stage, Transitions
from malfl_env import InputError, grid_world_v0, markov_game

ORIGIN = Origin(("a", "b"), None, 0.9, None)


def _trace(*seeds: int) -> LearningTrace:
    rngs = map(np.random.default_rng, seeds)
    return LearningTrace(tuple(Stage(rng.integers(0, 9, (4, 2, 2))) for rng in rngs))


def _steps(last: int) -> LearningTrace:
    seen = {"agent_0": np.array([0, 1, last])}
    steps = Transitions(
        None, np.zeros((3, 1), dtype=int), None, np.array([False, False, True]), True, seen, seen
    )
    return LearningTrace((Stage(transitions=steps),), ("agent_0",), (2,), (Discrete(4),))


def test_equal_stages_have_equal_hashes_and_others_do_not(tmp_path: Path) -> None:
    one, two = stage_hashes(_trace(1, 2)), stage_hashes(_trace(1, 3))
    assert one[0] == two[0] != one[1] != two[1]
    _trace(1, 2).save(tmp_path / "t.npz")
    assert stage_hashes(LearningTrace.load(tmp_path / "t.npz")) == one
    _steps(2).save(tmp_path / "steps")
    assert stage_hashes(LearningTrace.load(tmp_path / "steps")) == stage_hashes(_steps(2))
    assert stage_hashes(_steps(2)) != stage_hashes(_steps(3))


def test_the_hash_of_a_game_is_of_its_dynamics_only() -> None:
    def of(**options: object) -> str:
        return game_hash(markov_game(grid_world_v0.parallel_env(**options)))  # type: ignore[arg-type]

    assert (
        of()
        == of(rewards="heterogeneous")
        == game_hash(markov_game(grid_world_v0.parallel_env()).without_rewards())
    )
    others = {of(), of(slip=0.1), of(walls=[(1, 1)]), of(starts=(0, 1)), of(size=2)}
    assert len(others) == 5


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_result(tmp_path / RESULT_NAME) is None
    (tmp_path / "rewards.npz").write_bytes(b"x")
    write_result(tmp_path, ORIGIN, observer={"name": "x"})
    content = read_result(tmp_path / RESULT_NAME)
    assert content is not None
    assert Origin.from_mapping(content["made_from"]) == ORIGIN
    assert list(content["files"]) == ["rewards.npz"]


@pytest.mark.parametrize(
    "text",
    ["", "[1]", "{", '{"format": "x"}', "[" * 10**5, '{"format": "malfl recovered rewards"}'],
)
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / RESULT_NAME
    path.write_text(text)
    with pytest.raises(InputError, match=RESULT_NAME):
        read_result(path)


@pytest.mark.parametrize(
    "given",
    [
        None,
        {},
        {"stages": 3, "game": None, "discount": 1, "temperature": 1},
        {"stages": [1], "game": None, "discount": None, "temperature": None},
        {"stages": [], "game": 3, "discount": None, "temperature": None},
        {"stages": [], "game": None, "discount": "x", "temperature": None},
    ],
)
def test_a_damaged_origin_is_rejected(given: object) -> None:
    with pytest.raises(InputError, match="its origin"):
        Origin.from_mapping(given)


def _result(folder: Path, **files: str) -> None:
    with files_together(folder) as place:
        for name, text in files.items():
            (place / name).write_text(text)
        write_result(place, ORIGIN)


def _content(folder: Path) -> dict[str, str]:
    found = {path.name: path.read_text() for path in folder.iterdir()}
    found.pop(RESULT_NAME, None)
    return found


def test_a_new_folder_appears_with_all_its_files(tmp_path: Path) -> None:
    with files_together(tmp_path / "a" / "out") as place:
        (place / "x").write_text("1")
        assert not (tmp_path / "a" / "out").exists()
    assert _content(tmp_path / "a" / "out") == {"x": "1"}
    assert list((tmp_path / "a").iterdir()) == [tmp_path / "a" / "out"]


def test_after_an_error_nothing_has_changed(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        with files_together(folder) as place:
            (place / "rewards").write_text("2")
            raise RuntimeError("no")

    _result(tmp_path / "old", rewards="1")
    for name in ("old", "new"):
        with pytest.raises(RuntimeError, match="no"):
            fail(tmp_path / name)
    assert _content(tmp_path / "old") == {"rewards": "1"}
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_files_of_the_former_result_go_and_others_stay(tmp_path: Path) -> None:
    _result(tmp_path / "out", rewards="1", posterior="1", changed="1")
    (tmp_path / "out" / "notes").write_text("mine")
    (tmp_path / "out" / "changed").write_text("by me")
    _result(tmp_path / "out", rewards="2")
    assert _content(tmp_path / "out") == {"rewards": "2", "notes": "mine", "changed": "by me"}


def test_the_working_directory_stays_the_same_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _result(Path("."), rewards="1")
    _result(Path("."), rewards="2")
    assert _content(tmp_path) == {"rewards": "2"}


def test_a_process_that_dies_in_between_leaves_a_record_that_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _result(tmp_path, rewards="1", posterior="1")
    moved = []

    def replace(source: Path, target: Path) -> None:
        if Path(target).parent == tmp_path:
            if moved:
                raise KeyboardInterrupt
            moved.append(target)
        Path(source).rename(target)

    monkeypatch.setattr("malfl_algos.storage.origins.os.replace", replace)
    with pytest.raises(KeyboardInterrupt):
        _result(tmp_path, rewards="2", posterior="2")
    assert [path.name for path in moved] == [RESULT_NAME]
    files = json.loads((tmp_path / RESULT_NAME).read_text())["files"]
    monkeypatch.undo()
    _result(tmp_path, rewards="2", posterior="2")
    assert files == json.loads((tmp_path / RESULT_NAME).read_text())["files"]
    assert _content(tmp_path) == {"rewards": "2", "posterior": "2"}
