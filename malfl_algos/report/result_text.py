"""The summary of a recovered result as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap

from malfl_algos.recovered import RecoveredRewards
from malfl_algos.report.result_sections import Section, Table, sections_of

__all__ = ["summary_text"]

WIDTH = 88


def summary_text(result: RecoveredRewards) -> str:
    """See `RecoveredRewards.summary`."""
    agents = ", ".join(map(str, result.agents))
    lines = [f"Recovered rewards of {agents}", "=" * WIDTH]
    for section in sections_of(result):
        lines += _section(section)
        lines.append("-" * WIDTH)
    lines[-1] = "=" * WIDTH
    return "\n".join(lines)


def _section(section: Section) -> Iterator[str]:
    yield section.title
    for name, value in section.facts:
        head = f"  {name}: "
        yield from wrap(head + value, WIDTH, subsequent_indent="    ", break_on_hyphens=False)
    for table in section.tables:
        yield from _table(table)
    for sentence in section.sentences:
        yield from wrap(f"  - {sentence}", WIDTH, subsequent_indent="    ", break_on_hyphens=False)


def _table(table: Table) -> Iterator[str]:
    cut = [[_cut(cell) for cell in row] for row in (table.columns, *table.rows)]
    widths = [max(len(row[column]) for row in cut) for column in range(len(table.columns))]
    for row in cut:
        yield "  " + _line(row, widths, table.text_columns)
    if table.note:
        yield from wrap(f"  ({table.note})", WIDTH, subsequent_indent="   ")


def _line(row: Sequence[str], widths: Sequence[int], text_columns: int) -> str:
    cells = [
        cell.ljust(width) if column < text_columns else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def _cut(cell: str, most: int = 40) -> str:
    cell = " ".join(cell.split())
    return cell if len(cell) <= most else f"{cell[: most - 3]}..."
