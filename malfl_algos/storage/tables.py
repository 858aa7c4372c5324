"""Tables as CSV and Parquet: every column has one type, the same in both."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from malfl_algos.storage.durable import write_bytes

__all__ = ["write_table"]

Kind = Literal["integer", "number", "boolean", "text"]


def write_table(
    path: Path,
    rows: Iterable[Mapping[str, Any]],
    names: Sequence[str] | None = None,
    *,
    numbers: Collection[str] = (),
) -> bool:
    """Write a table; the ending of the path, `.csv` or `.parquet`, says how.

    Numbers are written in full precision, a missing value as an empty cell (Parquet: null), other
    values than numbers, booleans and text as JSON. The same rows give the same bytes (of Parquet,
    with the same version of pyarrow).

    Args:
        path: of the file; written whole or not at all.
        rows: a value that a row lacks is missing.
        names: of the columns, in order; all that rows have when left out.
        numbers: columns of floating-point numbers, whatever values there are.

    Returns:
        Whether it was written: Parquet needs pyarrow.
    """
    rows = list(rows)
    if names is None:
        names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {
        name: _typed([row.get(name) for row in rows], number=name in numbers) for name in names
    }
    if path.suffix == ".csv":
        write_bytes(path, _csv_bytes(columns))
    elif find_spec("pyarrow") is None:
        return False
    else:
        write_bytes(path, _parquet_bytes(columns))
    return True


def _typed(values: Sequence[Any], *, number: bool) -> tuple[Kind, list[Any]]:
    """The type of a column, and its values in this type."""
    kinds = {type(value) for value in values if value is not None}
    kind: Kind = "text"
    if number or (float in kinds and kinds <= {float, int}):
        kind = "number"
    elif kinds == {bool}:
        kind = "boolean"
    elif kinds == {int} and all(-(2**63) <= v < 2**63 for v in values if v is not None):
        kind = "integer"
    convert: Mapping[Kind, Callable[[Any], Any]] = {"number": float, "text": _text}
    if kind in convert:
        values = [None if value is None else convert[kind](value) for value in values]
    return kind, list(values)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _csv_bytes(columns: Mapping[str, tuple[Kind, list[Any]]]) -> bytes:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    cells = [
        [_text(value) if kind == "boolean" and value is not None else value for value in values]
        for kind, values in columns.values()
    ]
    table.writerows(zip(*cells, strict=True))
    return text.getvalue().encode()


def _parquet_bytes(columns: Mapping[str, tuple[Kind, list[Any]]]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    types = {
        "integer": pa.int64(),
        "number": pa.float64(),
        "boolean": pa.bool_(),
        "text": pa.string(),
    }
    arrays = {name: pa.array(values, types[kind]) for name, (kind, values) in columns.items()}
    buffer = io.BytesIO()
    parquet.write_table(pa.table(arrays), buffer)
    return buffer.getvalue()
