"""Logs in files: CSV of programs and spreadsheets, Parquet, NPZ, JSON lines; errors by row."""

from __future__ import annotations

import gzip
import json
import re

import numpy as np
import pytest

from malfl_algos import LearningTrace
from malfl_env import InputError

pyarrow = pytest.importorskip("pyarrow")

from malfl_algos.logs.files import open_log  # noqa: E402

TABLE = {
    "state": ["a", "b", "a", "b", "a", "a"],
    "episode": [0, 0, 0, 1, 1, 1],
    "step": [0, 1, 2, 0, 1, 2],
    "price": [1.5, 2.0, 1.5, 1.5, 2.0, 1.5],
    "door": [1, 0, 0, 1, 1, 0],
}
ROLES = {"state": "state", "episode": "episode", "step": "step", "episodes_per_stage": 1}
ACTIONS = {"seller": "price", "door": "door"}


def imported(path, **further):
    log = open_log(path, encoding=further.pop("encoding", None))
    return LearningTrace.from_table(log.read(log.names), **{**ROLES, "actions": ACTIONS, **further})


def of_table():
    return LearningTrace.from_table(TABLE, **ROLES, actions=ACTIONS)


def same(first, second):
    assert (first.states, first.actions, first.agents) == (
        second.states,
        second.actions,
        second.agents,
    )
    for one, other in zip(first.stages, second.stages, strict=True):
        np.testing.assert_array_equal(one.joint_counts, other.joint_counts)
        for name in ("states", "joint_actions", "next_states", "episode_ends"):
            np.testing.assert_array_equal(
                getattr(one.transitions, name), getattr(other.transitions, name)
            )
    return True


def rows(separator=",", comma="."):
    yield separator.join(TABLE)
    for own in zip(*TABLE.values(), strict=True):
        yield separator.join(map(str, own)).replace(".", comma)


FORMS = {
    "plain": ("\n".join(rows()), "utf-8"),
    "spreadsheet": ("\ufeff" + "\r\n".join(rows(";", ",")) + "\r\n;;;;\r\n", "utf-8"),
    "separator in the first line": ("sep=;\r\n" + "\r\n".join(rows(";", ",")), "utf-8"),
    "tabs, UTF-16": ("\n".join(rows("\t", ",")), "utf-16"),
    "bars and spaces": ("\n".join(rows(" | ")), "utf-8"),
    "quotes": ('"state",' + "\n".join(rows())[6:].replace("a,", '"a",'), "utf-8"),
    "comments": ("# by a program; of 2026\n#\n" + "\n".join(rows()), "utf-8"),
    "empty lines": ("\n\n" + "\n".join(rows()) + "\n\n\n", "utf-8"),
}


@pytest.mark.parametrize("form", FORMS)
def test_csv(form, tmp_path):
    text, encoding = FORMS[form]
    (tmp_path / "log.csv").write_bytes(text.encode(encoding))
    assert same(imported(tmp_path / "log.csv"), of_table())


def test_other_formats(tmp_path):
    from pyarrow import parquet

    (tmp_path / "a.csv.gz").write_bytes(gzip.compress("\n".join(rows()).encode()))
    np.savez(tmp_path / "a.npz", **{name: np.array(own) for name, own in TABLE.items()})
    parquet.write_table(pyarrow.table(TABLE), tmp_path / "a.parquet")
    records = [dict(zip(TABLE, own, strict=True)) for own in zip(*TABLE.values(), strict=True)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    (tmp_path / "a.json").write_text(json.dumps(records))
    for path in sorted(tmp_path.iterdir()):
        assert same(imported(path), of_table()), path


def test_frames_of_pyarrow():
    table = pyarrow.table({**TABLE, "state": pyarrow.array(TABLE["state"]).dictionary_encode()})
    assert same(LearningTrace.from_table(table, **ROLES, actions=ACTIONS), of_table())


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_frames_of_other_packages(package):
    frame = pytest.importorskip(package).DataFrame(TABLE)
    assert same(LearningTrace.from_table(frame, **ROLES, actions=ACTIONS), of_table())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("a,0,0,1.5,1", "a,0,0,1.5"), "row 2: it has 4 cells, the header has 5: 'a,0,0,1.5'"),
        (("b,0,1,2.0,0", ",0,1,2.0,0"), "row 3 (episode 0, step 1), column 'state': the state is"),
        (("b,0,1,2.0,0", "b,0,1,NA,0"), "row 3 (episode 0, step 1), column 'price': the action of"),
        (("b,0,1,2.0,0", "b,,1,2.0,0"), "row 3, column 'episode': the value is missing"),
        (("b,0,1,2.0,0", "b,0,one,2.0,0"), "row 3, column 'step': steps must be numbers or times"),
        (("b,0,1,2.0,0", "b,0,0,2.0,0"), "row 3 (episode 0, step 0): a second row of this step, t"),
        (("b,0,1,2.0,0", "b,0,1,2.0,-1"), "row 3, column 'door': the action of door is -1, allow"),
        (("state,", "stat,"), "there is no column 'state', did you mean 'stat'?"),
        (("price", "state"), "state: 2 columns are named 'state'"),
    ],
)
def test_what_is_wrong_in_a_csv_is_named_by_row(change, words, tmp_path):
    (tmp_path / "log.csv").write_text("\n".join(rows()).replace(*change, 1))
    with pytest.raises(InputError, match=re.escape(words)):
        imported(tmp_path / "log.csv")


def test_a_late_word_does_not_stop_the_reading(tmp_path):
    """A type that is guessed from the first block would fail in a later one."""
    n = 200_000
    lines = [f"{k % 7},{k // 100},{k % 100},{k % 2},0" for k in range(n)]
    lines[-3] = lines[-3].replace(",", "end,", 1)
    (tmp_path / "log.csv").write_text("\n".join([",".join(TABLE), *lines]))
    trace = imported(tmp_path / "log.csv", episodes_per_stage=1000)
    assert len(trace.states) == 8
    assert trace.notes[0].startswith(f"column 'state' mixes numbers and text (row {n - 1}: ")


def test_encodings(tmp_path):
    text = "\n".join(rows()).replace("b,", "\u00f6ffnen,")
    (tmp_path / "log.csv").write_bytes(text.encode("cp1252"))
    with pytest.raises(InputError, match="the text is not UTF-8: save it as CSV UTF-8, or name"):
        imported(tmp_path / "log.csv")
    assert imported(tmp_path / "log.csv", encoding="cp1252").states == ("a", "\u00f6ffnen")
    with pytest.raises(InputError, match="encoding must be one that Python knows, got 'x'"):
        imported(tmp_path / "log.csv", encoding="x")


NESTED = b'{"state": {"x": 1}, "episode": 0, "step": 0, "price": 1, "door": 0}'


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("log.xlsx", b"PK", "this is a workbook: save the sheet as CSV"),
        (
            "log.dat",
            b"",
            "the suffix, which must be one of .csv, .json, .jsonl, .ndjson, ",
        ),
        ("log.csv", b"", "the file is empty, expected a header and rows"),
        ("log.csv", b"state,episode,step,price,door", "the table has no rows"),
        ("log.parquet", b"PAR1 no", "not a readable Parquet file"),
        ("log.npz", b"no", "not a readable npz"),
        ("log.jsonl", b'{"state": 1}\n{"state"\n', "line 2: not JSON"),
        ("log.jsonl", b'{"state": 1}\n[1]\n', "line 2: must be a JSON mapping"),
        ("log.jsonl", NESTED, "line 1, column 'state': {'x': 1} is no number"),
    ],
)
def test_files_that_cannot_be_read(name, content, words, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=re.escape(words)):
        imported(tmp_path / name)


def test_nothing_is_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", state=np.array([print, None], dtype=object))
    with pytest.raises(InputError, match="must be an array of plain numbers, its dtype is object"):
        imported(tmp_path / "a.npz")


def test_json_lines_may_mix_types_and_lack_keys(tmp_path):
    lines = ['{"state": 1, "episode": 0, "step": 0, "price": 1, "door": 0}'] * 3
    lines[1] = lines[1].replace("1,", '"end",', 1).replace('"step": 0', '"step": 1')
    lines[2] = '{"state": NaN, "episode": 0, "step": 2, "price": 1, "door": 0}'
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    with pytest.raises(InputError, match=re.escape("line 3 (episode 0, step 2), column 'state'")):
        imported(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").write_text("\n".join(lines[:2]))
    trace = imported(tmp_path / "a.jsonl")
    assert trace.states == ("1", "end")
