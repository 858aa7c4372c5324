"""Pages of README and docs: their blocks of code, which tests run or parse.

`python tests/support/pages.py PAGE...` runs pages and writes anew the outputs that they show.

A block of `sh` or `python` is run in the order of the page, in one folder and one session, and the
block of `text` after it is what it prints. A block whose first line is `# NAME`, of a file, is
saved. One whose first line is `# not run by the tests: WHY` is parsed only, and so are commands
with a placeholder in capital letters, and installations.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from malfl_algos.cli.main import main as malfl

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]

_BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PLACEHOLDER = re.compile(r"\b[A-Z]{3,}\b(?!=)")
_SAVED = re.compile(r"# (\w+\.(?:py|yaml))\n")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]\d+)?")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Args:
        language: the word after the fence.
        text: what is between the fences.
        start, end: where the text begins and ends in the page.
    """

    language: str
    text: str
    start: int
    end: int

    @property
    def not_run(self) -> bool:
        return self.text.startswith("# not run by the tests: ")

    @property
    def installs(self) -> bool:
        return "pip install" in self.text


def blocks(page: Path) -> list[Block]:
    """All fenced blocks, in order."""
    return [
        Block(found[1], found[2], found.start(2), found.end(2))
        for found in _BLOCK.finditer(page.read_text(encoding="utf-8"))
    ]


def commands(text: str) -> list[list[str]]:
    """The words of every command of a block of `sh`; `a && b` are two, `|| true` is left out."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        line = re.sub(r"\$\w+", "1", line.strip().removesuffix("|| true").removesuffix(" &"))
        for part in re.split(r"\s*&&\s*|;\s+", line):
            words = shlex.split(part.removeprefix("do "), comments=True)
            if words:
                found.append(words)
    return found


def has_placeholder(words: Sequence[str]) -> bool:
    """Whether a word such as TRACE.npz stands for one of the reader's own."""
    return any(_PLACEHOLDER.search(word) for word in words[1:])


def shape(text: str) -> list[str]:
    """The lines without numbers, whose last digits depend on the machine."""
    return [_NUMBER.sub("#", line).rstrip() for line in text.strip().splitlines()]


def outputs(page: Path, shorter: dict[str, str] | None = None) -> Iterator[tuple[Block, str]]:
    """Run a page in the current folder; yields every block that is run, with what it prints.

    Args:
        page: its file.
        shorter: text of blocks, and what takes its place, where the page takes minutes.
    """
    session: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        if name := _SAVED.match(block.text):  # a file that the reader saves
            Path(name[1]).write_text(block.text, encoding="utf-8")
        if block.not_run or block.installs or block.language not in ("sh", "python"):
            continue
        text = block.text
        for whole, part in (shorter or {}).items():
            text = text.replace(whole, part)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            if block.language == "python":
                exec(compile(text, f"{page.name}", "exec"), session)
            else:
                _run(text)
        yield block, printed.getvalue()


def _run(text: str) -> None:
    for words in commands(text):
        if words[0] == "malfl" and not has_placeholder(words):
            try:
                status = malfl(words[1:])
            except SystemExit as ended:  # --version, --help
                status = ended.code
            assert status == 0 or "|| true" in text, words


class Parsed(BaseException):
    """Raised in place of running a command whose arguments were parsed."""


def parse(words: Sequence[str], run: Callable[[Sequence[str]], object]) -> None:
    """Parse the arguments of a command and run no more of it; wrong ones raise an exception."""
    parser = argparse.ArgumentParser
    original = parser.parse_known_args

    def parse_only(self: Any, args: Any = None, namespace: Any = None) -> Any:
        known, unknown = original(self, args, namespace)
        if namespace is None:  # the whole command, not its subcommand
            assert not unknown, unknown
            raise Parsed
        return known, unknown

    parser.parse_known_args = parse_only  # type: ignore[method-assign]
    before = sys.argv
    sys.argv = ["", *words]
    try:
        run(list(words))
    except Parsed:
        return
    except SystemExit as ended:
        if ended.code:  # 0: --version
            raise
        return
    finally:
        sys.argv = before
        parser.parse_known_args = original  # type: ignore[method-assign]
    raise AssertionError(f"{words} parses no arguments")


def refresh(page: Path) -> None:
    """Run a page in an empty folder beside its logs, and write its outputs into it."""
    text, before = page.read_text(encoding="utf-8"), os.getcwd()
    shown = list(pairwise(blocks(page)))
    with tempfile.TemporaryDirectory() as folder:
        furnish(Path(folder))
        os.chdir(folder)
        sys.path.insert(0, folder)
        printed = dict(outputs(page))
        os.chdir(before)
    for block, following in reversed(shown):
        if following.language == "text" and block in printed:
            text = text[: following.start] + printed[block] + text[following.end :]
    page.write_text(text, encoding="utf-8")


def furnish(folder: Path) -> None:
    """Give a folder what the pages take from the checkout and from beside the tutorials."""
    for name in ("docs", "scripts", "plugins"):
        (folder / name).symlink_to(ROOT / name)
    for log in (DOCS / "tutorials").glob("*.csv*"):
        (folder / log.name).write_bytes(log.read_bytes())


if __name__ == "__main__":
    for name in sys.argv[1:]:
        refresh(Path(name).resolve())
