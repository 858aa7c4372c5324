"""The writer of tables: a column has one type, and CSV and Parquet hold the same values."""

import csv
from importlib.util import find_spec

import pytest

from malfl_algos.storage.tables import write_table

ROWS = [
    {"whole": 1, "mixed": 1, "text": "a", "truth": True, "any": None, "huge": 2**70, "list": [1]},
    {"whole": 2, "mixed": 0.1 + 0.2, "text": 3, "truth": None, "huge": 1, "list": {"a": None}},
]


def read(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_csv(tmp_path):
    assert write_table(tmp_path / "t.csv", ROWS)
    assert [list(row.values()) for row in read(tmp_path / "t.csv")] == [
        ["1", "1.0", "a", "true", "", str(2**70), "[1]"],
        ["2", repr(0.1 + 0.2), "3", "", "", "1", '{"a": null}'],
    ]


def test_columns_may_be_chosen_and_typed(tmp_path):
    write_table(tmp_path / "t.csv", iter(ROWS), ["whole", "absent"], numbers=("whole",))
    assert read(tmp_path / "t.csv") == [
        {"whole": "1.0", "absent": ""},
        {"whole": "2.0", "absent": ""},
    ]


@pytest.mark.skipif(find_spec("pyarrow") is not None, reason="pyarrow is here")
def test_parquet_without_pyarrow(tmp_path):
    assert not write_table(tmp_path / "t.parquet", ROWS)
    assert list(tmp_path.iterdir()) == []


def test_parquet_has_the_types_of_the_columns(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    assert write_table(tmp_path / "t.parquet", ROWS)
    table = parquet.read_table(tmp_path / "t.parquet")
    assert [str(field.type) for field in table.schema] == [
        "int64",
        "double",
        "string",
        "bool",
        "string",
        "string",
        "string",
    ]
    assert table.column("mixed").to_pylist() == [1.0, 0.1 + 0.2]
