import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from malfl_algos.experiments.records import DamagedRecord, read_record, write_record
from malfl_algos.storage import durable
from malfl_algos.storage.durable import (
    NoSpace,
    clear_leftovers,
    leftovers,
    make_folder,
    partial_folder,
    replace_folder,
    value_hash,
    write_bytes,
)


def test_a_file_is_on_the_disk_before_it_is_seen_and_its_folder_after(tmp_path, monkeypatch):
    done: list[str] = []
    path = tmp_path / "a" / "file"
    monkeypatch.setattr(os, "fsync", lambda handle: done.append(f"fsync {_name(handle)}"))
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("replace"), replace(*names)))
    write_bytes(path, b"content")
    assert done[:1] == [f"fsync {tmp_path}"]
    assert done[1].startswith(f"fsync {path.parent}/.file.")
    assert done[2:] == ["replace", f"fsync {path.parent}"]


def _name(handle: int) -> str:
    return os.readlink(f"/proc/self/fd/{handle}")


def test_what_is_there_already_is_left_alone(tmp_path):
    path = tmp_path / "file"
    write_bytes(path, b"content")
    before = path.stat()
    write_bytes(path, b"content")
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    write_bytes(path, b"another")
    assert path.read_bytes() == b"another"


def test_files_have_the_rights_that_others_have(tmp_path):
    write_bytes(tmp_path / "file", b"")
    (tmp_path / "other").touch()
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
@pytest.mark.parametrize("call", ["fsync", "replace", "mkdir"])
def test_no_space_names_the_file_and_leaves_nothing(tmp_path, monkeypatch, number, call):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    path = tmp_path / "folder" / "file"
    monkeypatch.setattr(durable.os, call, refuse)
    if call == "mkdir":
        monkeypatch.setattr(Path, "mkdir", refuse)
    else:
        path.parent.mkdir()
    with pytest.raises(NoSpace, match=f"{path}: no space to write it"):
        write_bytes(path, b"content")
    assert not path.parent.exists() or list(path.parent.iterdir()) == []


def test_other_errors_stay_as_they_are(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        write_bytes(tmp_path / "file" / "file", b"")


def test_a_folder_takes_the_place_of_another(tmp_path):
    target = tmp_path / "unit"
    for number in range(2):
        make_folder(partial_folder(target))
        (partial_folder(target) / f"file_{number}").touch()
        replace_folder(partial_folder(target), target)
    assert [path.name for path in tmp_path.rglob("*")] == ["unit", "file_1"]


def test_the_old_folder_comes_back_where_the_new_one_never_came(tmp_path, monkeypatch):
    target = tmp_path / "unit"
    for place in (target, partial_folder(target)):
        place.mkdir()
        (place / place.name).touch()
    replace = os.replace

    def die_at_the_second(old: Path, new: Path) -> None:
        if old == partial_folder(target):
            raise KeyboardInterrupt
        replace(old, new)

    monkeypatch.setattr(durable.os, "replace", die_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        replace_folder(partial_folder(target), target)
    assert not target.exists()
    assert len(leftovers(tmp_path, ".*")) == 2
    clear_leftovers(tmp_path, ".*")
    assert [path.name for path in tmp_path.rglob("*")] == ["unit", "unit"]


def test_only_leftovers_are_cleared_away(tmp_path):
    kept = [".hidden", "data.partial", ".git"]
    for name in (*kept, ".file.12345678.partial", ".unit.replaced"):
        (tmp_path / name).touch()
    (tmp_path / "unit").mkdir()
    clear_leftovers(tmp_path, ".*", "*/.*")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "unit"])


RECORD = {
    "configuration": {"discount": 0.9, "seeds": [0, 1]},
    "wall_seconds": {"learner": 1.25},
    "earlier_versions": [],
    "parts": {"homogeneous/seed_0/ma-spi": {"state": "done"}},
    "files": {"homogeneous/seed_0/ma-spi/trace.npz": "0" * 64},
}


@given(st.data())
def test_any_damage_of_a_record_is_found(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("record")
    write_record(root, RECORD)
    whole = (root / "run.json").read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != whole[at]))
    cut = data.draw(st.booleans())
    (root / "run.json").write_bytes(whole[:at] + (b"" if cut else bytes([byte]) + whole[at + 1 :]))
    with pytest.raises(DamagedRecord, match=r"run\.json: not readable as the record of a run"):
        read_record(root)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"files": {"../../etc/passwd": "0" * 64}}, "must lie in its folder"),
        ({"files": {"/etc/passwd": "0" * 64}}, "must lie in its folder"),
        ({"files": {"a//b": "0" * 64}}, "must lie in its folder"),
        ({"files": {"a": "b"}}, "must be SHA-256"),
        ({"files": []}, "files must be a mapping"),
        ({"parts": {"a": "done"}}, "each of its parts must be a mapping"),
        ({"version": 1}, "its version is 1, but this malfl reads version 2"),
    ],
)
def test_an_impossible_record_is_rejected(tmp_path, changes, complaint):
    write_record(tmp_path, {**RECORD, **changes})
    with pytest.raises(DamagedRecord, match=complaint):
        read_record(tmp_path)


def test_a_hash_of_values_does_not_depend_on_the_order_of_keys():
    assert value_hash({"a": [1, 2.5], "b": None}) == value_hash({"b": None, "a": (1, 2.5)})
    assert value_hash({"a": 1}) != value_hash({"a": 1.0})
