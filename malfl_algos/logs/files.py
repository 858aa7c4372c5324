"""Files of logs: which format a file has, its columns, and how they are read.

CSV, Parquet and JSON lines are read by pyarrow, NPZ by NumPy, data sets of Minari by Minari. None
of these executes anything that is in a file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from malfl_algos.logs.column import Frame
from malfl_algos.storage.arrays import MANIFEST, read_npz
from malfl_algos.storage.extras import needed
from malfl_env.errors import InputError

__all__ = ["FORMATS", "Log", "needed", "open_log"]

_MAX_JSON_BYTES = 2**31


@dataclass(frozen=True, eq=False)
class Log:
    """A log in a file.

    Args:
        names: of its columns, in order.
        read: the frame with these columns.
        roles: arguments of `LearningTrace.from_table` that the format fixes.
        about: what `malfl export` wrote about the trace, if it wrote the file; else empty.
        notes: what was found out about the file, by now.
    """

    names: tuple[str, ...]
    read: Callable[[Sequence[str]], Frame]
    roles: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    notes: Callable[[], Sequence[str]] = tuple


def open_log(path: Path, *, encoding: str | None = None) -> Log:
    """Find out the format of a file by its suffix, and the names of its columns.

    Args:
        path: a file, or the folder of a data set of Minari.
        encoding: of a CSV; None: UTF-8, or UTF-16 if the file says so.

    Raises:
        InputError: for a file of another format, or one that cannot be read.
        ModuleNotFoundError: if a package is missing; the message says how to install it.
    """
    if path.is_dir():
        return _minari(path)
    suffixes = [own.lower() for own in path.suffixes]
    last = "".join(suffixes[-2:-1] if suffixes[-1:] == [".gz"] else suffixes[-1:])
    if last in (".xlsx", ".xls", ".ods"):
        raise InputError("this is a workbook: save the sheet as CSV (UTF-8) and import that")
    if last not in FORMATS:
        raise InputError(
            f"the format is told by the suffix, which must be one of {', '.join(sorted(FORMATS))}, "
            f"or the path the folder of a data set of Minari; got {last or 'no suffix'!r}"
        )
    if FORMATS[last] is _csv:
        return _csv(path, encoding)
    return FORMATS[last](path)


def _csv(path: Path, encoding: str | None = None) -> Log:
    needed("pyarrow", "this format")
    from malfl_algos.logs.csv_files import CsvFile

    file = CsvFile.opened(path, encoding)
    return Log(file.names, file.read, notes=lambda: file.notes)


def _minari(path: Path) -> Log:
    minari = needed("minari", "this format")
    needed("h5py", "this format")
    from malfl_algos.logs.minari_files import read_dataset

    columns, about = read_dataset(minari, path)
    return Log(
        tuple(columns), lambda names: Frame(tuple(columns), columns.__getitem__), about=about
    )


def _parquet(path: Path) -> Log:
    parquet = needed("pyarrow.parquet", "this format")
    fault_types = (needed("pyarrow", "this format").ArrowException, OSError, UnicodeError)
    try:
        schema = parquet.read_schema(path)
        columns = tuple(schema.names)
    except fault_types as fault:
        raise InputError(f"not a readable Parquet file: {_line(fault)}") from fault
    about: Any = {}
    try:
        about = json.loads((schema.metadata or {}).get(b"malfl", b"{}"))
    except ValueError as fault:
        raise InputError(f"its metadata of malfl is not JSON: {_line(fault)}") from fault

    texts = [own.name for own in schema if str(own.type) in ("string", "large_string")]

    def read(names: Sequence[str]) -> Frame:
        try:
            # text by its distinct values takes a tenth of the memory
            file = parquet.ParquetFile(path, read_dictionary=texts)
            table = file.read(columns=list(dict.fromkeys(names)))
            table.validate(full=True)
        except fault_types as fault:
            raise InputError(f"not a readable Parquet file: {_line(fault)}") from fault
        return Frame(columns, table.__getitem__)

    return Log(columns, read, about=about if isinstance(about, dict) else {})


def _npz(path: Path) -> Log:
    arrays = read_npz(path, text=True)
    if MANIFEST in arrays:
        raise InputError("this is a file of malfl already, perhaps a trace: it needs no import")
    return Log(tuple(arrays), lambda names: Frame(tuple(arrays), arrays.__getitem__))


def _json_lines(path: Path) -> Log:
    pyarrow, reader = needed("pyarrow", "this format"), needed("pyarrow.json", "this format")
    try:
        table = reader.read_json(path)
        table.validate(full=True)
        columns: Mapping[str, Any] = {name: table[name] for name in table.column_names}
    except (pyarrow.ArrowException, OSError, UnicodeError):
        columns = _json_by_line(path)  # mixed types, NaN, a list of records; or an error by line
    names = tuple(columns)
    return Log(names, lambda _: Frame(names, columns.__getitem__, lambda row: f"line {row + 1}"))


def _json_by_line(path: Path) -> dict[str, Any]:
    """The columns of JSON lines, or of one JSON list, that pyarrow does not read."""
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise InputError(f"larger than {_MAX_JSON_BYTES} bytes: use Parquet or CSV")
    records = []
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeError as fault:
        raise InputError(f"not UTF-8: {_line(fault)}") from fault
    if text.lstrip().startswith("["):
        records = _parsed(text, "the file")
    else:
        for number, line in enumerate(text.splitlines(), start=1):
            records.append(_parsed(line, f"line {number}") if line.strip() else {})
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise InputError(f"line {number}: must be a JSON mapping of columns to values")
    names = dict.fromkeys(name for record in records for name in record)
    columns = {}
    for name in names:
        columns[name] = np.empty(len(records), dtype=object)
        columns[name][:] = [record.get(name) for record in records]
    return columns


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise InputError(f"{where}: not JSON: {_line(fault)}") from fault


def _line(fault: Exception) -> str:
    return " ".join(str(fault).split())[:200]


FORMATS: Mapping[str, Callable[[Path], Log]] = {
    ".csv": _csv,
    ".tsv": _csv,
    ".txt": _csv,
    ".parquet": _parquet,
    ".pq": _parquet,
    ".npz": _npz,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_lines,
}
"""Readers by suffix."""
