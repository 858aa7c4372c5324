"""Make the pages of docs/tables anew: `python scripts/tables.py`, or some with `--pages study`.

The commands that a page shows are run, and the tables that they write take the place of those below
them. Finished cells of a study are not run again, so `--folder` may hold an earlier one. The page
`peers` needs other authors' code in `--folder`; see `peers.py`.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["commands_of", "main", "with_tables"]

TABLES = Path(__file__).parents[1] / "docs" / "tables"
WRITTEN = {
    "study": "study/study.md",
    "learners": "learners/study.md",
    "peers": "peers/peers.md",
    "sensitivity": None,
}
"""File with the tables of each page, in the folder; None: its command writes the page itself."""
HEAD = re.compile(r".*?^```sh\n(.*?)^```\n", re.DOTALL | re.MULTILINE)


def commands_of(page: str) -> list[list[str]]:
    """The words of every command `python scripts/...` of the first block of a page."""
    found = HEAD.match(page)
    lines = [] if found is None else found[1].splitlines()
    return [line.split()[1:] for line in lines if line.startswith("python scripts/")]


def with_tables(page: str, tables: str) -> str:
    """The page up to its first block of commands, and these tables below it."""
    found = HEAD.match(page)
    if found is None:
        raise ValueError("the page has no block of commands")
    return f"{found[0]}\n{tables}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the commands of the pages and write their tables; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--pages", nargs="+", choices=list(WRITTEN), default=list(WRITTEN), help="default: all"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path(), metavar="DIR", help="run in DIR (default: here)"
    )
    given = parser.parse_args(argv)
    root = TABLES.parents[1]
    for name in given.pages:
        file = TABLES / f"{name}.md"
        page = file.read_text(encoding="utf-8")
        for script, *words in commands_of(page):
            words = [str(root / word) if word.startswith("docs/") else word for word in words]
            command = [sys.executable, str(root / script), *words]
            subprocess.run(command, cwd=given.folder, check=True)
        written = WRITTEN[name]
        if written is not None:
            tables = (given.folder / written).read_text(encoding="utf-8")
            file.write_text(with_tables(page, tables), encoding="utf-8")
        print(f"{file}: made anew")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
