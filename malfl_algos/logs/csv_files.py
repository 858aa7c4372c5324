"""CSV as programs and spreadsheets write it, read by pyarrow.

All columns are read as text, because a type that is guessed from the first rows fails in the last.
The distinct texts of a column then become numbers, if all of them are numbers. Commas, semicolons,
tabs and bars separate; decimal commas are read where commas do not separate. Byte order marks, a
first line `sep=;`, comments (#) before the header, empty rows, and spaces around values are
allowed.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import compute
from pyarrow import csv as arrow_csv

from malfl_algos.logs.arrow_columns import values_of
from malfl_algos.logs.column import MISSING, Column, Frame, of_labels, of_numbers
from malfl_env.errors import InputError

__all__ = ["CsvFile", "parse_text"]

MISSING_WORDS = ("", "NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "null", "NULL", "None")
"""Cells that have no value."""
_MISSING = f"^({'|'.join(MISSING_WORDS)})$"
_SEPARATORS = ";\t|,"
_WHOLE = r"^[+-]?[0-9]+$"
_NUMBER = r"^[+-]?([0-9]+[.,]?[0-9]*|[.,][0-9]+)([eE][+-]?[0-9]+)?$"
_HEAD_BYTES = 2**18
_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True)
class CsvFile:
    """A CSV file whose header has been read.

    Args:
        path: of the file; `.gz` is decompressed.
        names: of the columns, as in the header.
        separator: between the cells of a row.
        encoding: of the text.
        n_before: lines before the first row of data.
        decimal_commas: names of the columns that were read and have decimal commas.
    """

    path: Path
    names: tuple[str, ...]
    separator: str
    encoding: str
    n_before: int
    decimal_commas: list[str] = field(default_factory=list)

    @classmethod
    def opened(cls, path: Path, encoding: str | None = None) -> CsvFile:
        """Read the header.

        Raises:
            InputError: for an empty file, or text in another encoding.
        """
        with pyarrow.input_stream(str(path)) as stream:
            head = bytes(stream.read(_HEAD_BYTES))
        if encoding is None:
            marked = [name for mark, name in _MARKS.items() if head.startswith(mark)]
            encoding = [*marked, "utf-8"][0]
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(head).removeprefix("\ufeff")
        except LookupError:
            raise InputError(f"encoding must be one that Python knows, got {encoding!r}") from None
        except UnicodeError as fault:
            raise InputError(_not_encoded(encoding)) from fault
        lines = text.splitlines()
        place = _header_line(lines)
        if place is None:
            raise InputError("the file is empty, expected a header and rows")
        separator = ""
        if lines[place].lower().startswith("sep=") and len(lines) > place + 1:
            separator = lines[place][4:5]
            place += 1
        header = lines[place]
        if not separator:
            separator = max(_SEPARATORS, key=_unquoted(header).count)
        names = tuple(own.strip() for own in next(csv.reader([header], delimiter=separator)))
        return cls(path, names, separator, encoding, place + 1)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found out about the form of the file."""
        named = {";": "semicolons", "\t": "tabs", "|": "bars"}.get(self.separator)
        notes = () if named is None else (f"cells are separated by {named}",)
        if not self.decimal_commas:
            return notes
        columns = ", ".join(map(repr, dict.fromkeys(self.decimal_commas)))
        return (*notes, f"commas are decimal signs in {columns}")

    def read(self, names: Sequence[str]) -> Frame:
        """The frame with these columns.

        Raises:
            InputError: for a row with too many or too few cells, with its number.
        """
        wanted = [str(place) for place, name in enumerate(self.names) if name in set(names)]
        table = self._table(wanted) if wanted else None
        row_name = self.row_name
        commas = self.separator != ","

        def parse(name: str, raw: Any) -> Column:
            column = parse_text(name, raw, commas=commas, row_name=row_name)
            if commas and not column.is_text and _has_commas(raw):
                self.decimal_commas.append(name)
            return column

        get = lambda name: table[str(self.names.index(name))]  # type: ignore[index]  # noqa: E731
        return Frame(self.names, get, row_name, parse)

    def row_name(self, index: int) -> str:
        """The row as spreadsheets number it; the header is row 1."""
        return f"row {index + 1 + self.n_before}"

    def _table(self, wanted: Sequence[str], faults: list[Any] | None = None) -> Any:
        def note(row: Any) -> str:
            if faults is not None:
                faults.append(row)
            return "error"

        try:
            return arrow_csv.read_csv(
                str(self.path),
                read_options=arrow_csv.ReadOptions(
                    column_names=[str(place) for place in range(len(self.names))],
                    skip_rows=self.n_before,
                    encoding=self.encoding,
                    use_threads=faults is None,
                    block_size=2**22,
                ),
                parse_options=arrow_csv.ParseOptions(
                    delimiter=self.separator,
                    newlines_in_values=True,
                    ignore_empty_lines=False,
                    invalid_row_handler=note,
                ),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(
                        wanted, pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
                    ),
                    include_columns=list(wanted),
                    strings_can_be_null=False,
                ),
            )
        except UnicodeError as fault:
            raise InputError(_not_encoded(self.encoding)) from fault
        except pyarrow.ArrowInvalid as fault:
            words = " ".join(str(fault).split())
            if "UTF8" in words:
                raise InputError(_not_encoded(self.encoding)) from fault
            if "Empty CSV" in words or "Could not skip" in words:
                raise InputError("the table has no rows") from fault
            if faults is None:  # rows are numbered by a single thread only
                return self._table(wanted, [])
            if faults and faults[0].number is not None:
                row = faults[0]
                raise InputError(
                    f"row {row.number}: it has {row.actual_columns} cells, the header has "
                    f"{row.expected_columns}: {row.text[:80]!r}"
                ) from fault
            raise InputError(f"not a readable CSV: {words[:200]}") from fault


def _has_commas(chunked: Any) -> bool:
    """Whether a text of pyarrow's dictionary-encoded strings has a comma."""
    texts = [chunk.dictionary for chunk in chunked.chunks]
    return any(compute.any(compute.match_substring(own, ",")).as_py() for own in texts)


def parse_text(name: str, chunked: Any, *, commas: bool, row_name: Any) -> Column:
    """A column of text as numbers, if all its texts are numbers; as times, if all are times.

    Args:
        name: of the column.
        chunked: pyarrow's dictionary-encoded strings.
        commas: whether a comma may be the decimal sign.
        row_name: names a row in messages.
    """
    encoded = chunked.unify_dictionaries().combine_chunks()
    if isinstance(encoded, pyarrow.ChunkedArray):
        if not encoded.num_chunks:
            return Column(name, np.array([], dtype=object), np.array([], dtype=np.int64))
        encoded = encoded.chunk(0)
    codes = values_of(encoded.indices)
    texts = compute.utf8_trim_whitespace(encoded.dictionary)
    absent = compute.match_substring_regex(texts, pattern=_MISSING)
    gone = values_of(absent)
    missing = gone[codes] if gone.any() else None
    kept = texts.filter(compute.invert(absent)) if gone.any() else texts
    values, mixed = _values(kept, commas=commas)
    if values is None:
        place = np.cumsum(~gone) - 1
        place[gone] = MISSING
        column = of_labels(name, kept.to_pylist(), place[codes])
        if mixed is None:
            return column
        numbers = np.append(mixed, False)
        return Column(name, column.values, column.codes, int(np.argmax(numbers[place[codes]])))
    whole = np.zeros(len(gone), dtype=values.dtype)
    whole[~gone] = values
    known = np.zeros(len(codes), dtype=bool) if missing is None else missing
    return of_numbers(name, whole[codes], known, row_name)


def _values(texts: Any, *, commas: bool) -> tuple[Any, Any]:
    """Distinct texts as numbers or times; None and which of them are numbers, if some are not."""

    def matches(pattern: str) -> Any:
        found = compute.match_substring_regex(texts, pattern=pattern)
        return values_of(found)

    if len(texts) == 0:
        return np.array([], dtype=np.int64), None
    if matches(_WHOLE).all():
        bare = compute.replace_substring_regex(texts, pattern=r"^\+", replacement="")
        try:
            return values_of(compute.cast(bare, pyarrow.int64())), None
        except pyarrow.ArrowInvalid:  # more than 64 bits
            return None, None
    numbers = matches(_NUMBER if commas else _NUMBER.replace("[.,]", r"\."))
    if numbers.all():
        points = compute.replace_substring(texts, pattern=",", replacement=".")
        return values_of(compute.cast(points, pyarrow.float64())), None
    for kind in (pyarrow.timestamp("us"), pyarrow.timestamp("us", "UTC")):
        try:
            return values_of(compute.cast(texts, kind)), None
        except pyarrow.ArrowInvalid:
            continue
    return None, numbers if numbers.any() else None


def _header_line(lines: Sequence[str]) -> int | None:
    """The first line that is neither empty nor a comment; None if there is none.

    A line that begins with # is a comment, unless it has as many separators as the next line.
    """
    full = [place for place, line in enumerate(lines) if line.strip()]
    for place, following in zip_longest(full, full[1:]):
        if not lines[place].startswith("#") or following is None:
            return place
        one, other = (_unquoted(lines[own]) for own in (place, following))
        if any(one.count(sign) == other.count(sign) > 0 for sign in _SEPARATORS):
            return place
    return None


def _unquoted(line: str) -> str:
    return "".join(line.split('"')[::2])


def _not_encoded(encoding: str) -> str:
    return (
        f"the text is not {encoding.upper()}: save it as CSV UTF-8, or name its encoding (from "
        "Excel often --encoding cp1252)"
    )
