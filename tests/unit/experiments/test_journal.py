"""Units are recorded by a line each, and `run.json` is written a constant number of times."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from malfl_algos.experiments import folder as folders
from malfl_algos.experiments.config import from_mapping
from malfl_algos.experiments.folder import RunFolder, open_run
from malfl_algos.experiments.jobs import Outcome
from malfl_algos.experiments.journal import JOURNAL_NAME, add_line, lines
from malfl_algos.experiments.records import RECORD_NAME, read_record, write_record
from malfl_algos.storage.durable import folder_checksums, make_folder, partial_folder

SUM = "0" * 64


def _config(n_seeds: int) -> Any:
    return from_mapping({"seeds": list(range(n_seeds)), "observers": ["log-policy"]})


def _begun(root: Path, n_seeds: int) -> RunFolder:
    folder = open_run(root, _config(n_seeds), overwrite=False)
    folder.begin(())
    return folder


def _done(folder: RunFolder, *, text: str = "x") -> None:
    """Units that are done, one file each."""
    for unit in folder.units("learner"):
        partial = partial_folder(unit.folder)
        make_folder(partial)
        (partial / "trace.npz").write_text(f"{text} {unit.seed}")
        folder.add(Outcome(unit, 0.5, checksums=folder_checksums(partial), trace="hash"))


def _record(root: Path) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    record = read_record(root)
    return record["parts"], record["files"]


def test_a_killed_run_has_all_its_units_in_record_and_journal(tmp_path: Path) -> None:
    folder = _begun(tmp_path, 3)
    before = (tmp_path / RECORD_NAME).read_bytes()
    _done(folder)
    assert (tmp_path / RECORD_NAME).read_bytes() == before
    told = _record(tmp_path)
    assert [part["state"] for name, part in told[0].items() if "ma-spi" in name] == ["done"] * 6
    assert read_record(tmp_path)["wall_seconds"] == {"learner": 3.0}
    again = open_run(tmp_path, _config(3), overwrite=False)
    assert all(again.is_done(unit) for unit in again.units("learner"))
    again.begin(())
    assert not (tmp_path / JOURNAL_NAME).exists()
    assert _record(tmp_path) == told


def test_a_unit_that_is_done_again_has_its_new_files_only(tmp_path: Path) -> None:
    folder = _begun(tmp_path, 2)
    _done(folder)
    _done(folder, text="y")
    assert _record(tmp_path)[1] == folder.files
    folder.save()
    assert _record(tmp_path)[1] == folder.files


def test_run_json_is_written_as_often_for_many_units_as_for_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every record holds all units, so that time would grow with their square."""
    written: list[int] = []

    def counted(root: Path, content: Mapping[str, Any]) -> str:
        written.append(len(content["parts"]))
        return write_record(root, content)

    monkeypatch.setattr(folders, "write_record", counted)
    for n_seeds in (2, 20):
        _done(_begun(tmp_path / str(n_seeds), n_seeds))
        assert len(written) == 2
        written.clear()


@pytest.mark.parametrize("cut", [1, 70])
def test_a_line_that_is_incomplete_or_damaged_ends_the_journal(tmp_path: Path, cut: int) -> None:
    for number in range(3):
        add_line(tmp_path, SUM, {"unit": number})
    path = tmp_path / JOURNAL_NAME
    whole = path.read_bytes()
    assert [line["unit"] for line in lines(tmp_path, SUM)] == [0, 1, 2]
    path.write_bytes(whole[:-cut])
    assert [line["unit"] for line in lines(tmp_path, SUM)] == [0, 1]
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    path.write_bytes(bytes(flipped))
    assert [line["unit"] for line in lines(tmp_path, SUM)] in ([], [0])


def test_a_journal_of_another_record_is_ignored(tmp_path: Path) -> None:
    assert list(lines(tmp_path, SUM)) == []
    add_line(tmp_path, SUM, {"unit": 0})
    assert list(lines(tmp_path, "1" * 64)) == []
