"""Tutorials run as they stand: their commands, what these print, and their Python."""

from __future__ import annotations

import gzip
import os
import re
import shlex
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")

from malfl_algos.cli.main import main

FOLDER = Path(__file__).parents[2] / "docs" / "tutorials"
PAGES = sorted(FOLDER.glob("*.md"))
DATA = "MALFL_LABYRINTH"
"""Environment variable of the folder with the trajectories of mice, which are not ours."""
DECIMALS = re.compile(r"-?\d+\.\d+")
SHORTER = {"range(3, 11)": "range(3, 4)"}
"""What is left out of the pages under test, because it takes minutes."""


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of every block of code, in order."""
    return re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[list[str]]:
    lines = text.replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("malfl ")]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with the logs that lie beside the tutorials."""
    for log in FOLDER.glob("*.csv*"):
        (tmp_path / log.name).write_bytes(log.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shape(line: str) -> str:
    """A line without its numbers, which depend on the machine in their last digits."""
    return re.sub(r"-?\d+(\.\d+)?", "#", line)


def run(page: Path, capsys, *, only: tuple[str, ...] | None = None) -> int:
    """Run the page's blocks in order; a block `text` after one is what it prints.

    Lines of Python may be left out of it (`SHORTER`), and are compared but for their numbers.
    """
    number, printed, source = 0, None, ""
    for language, text in blocks(page):
        if language == "sh":
            printed = None
            for argv in commands(text):
                if only is not None and argv[0] not in only:
                    continue
                allowed = "|| true" in text
                argv = argv[: argv.index("||")] if "||" in argv else argv
                assert main(argv) == 0 or allowed, argv
                printed, source = capsys.readouterr().out, language
                number += 1
        elif language == "text" and printed is not None:
            assert printed, text
            if source == "sh":
                assert DECIMALS.sub("#", printed) == DECIMALS.sub("#", text)
            else:
                wanted = {shape(line) for line in text.splitlines()}
                assert {shape(line) for line in printed.splitlines()} <= wanted
        elif language == "python" and only is None:  # it may need what was left out
            for whole, part in SHORTER.items():
                text = text.replace(whole, part)
            exec(compile(text, page.name, "exec"), {})
            printed, source = capsys.readouterr().out, language
    return number


def test_own_logs_are_imported(folder, capsys):
    assert run(FOLDER / "bring-your-own-logs.md", capsys, only=("import",)) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_runs(page, folder, capsys):
    if DATA in page.read_text() and DATA not in os.environ:
        pytest.skip(f"{DATA} does not name the folder of the trajectories of mice")
    assert run(page, capsys) >= 1


def test_the_log_of_the_rooms_is_what_its_script_writes(tmp_path):
    from rooms_log import main as write

    assert write(["--output", str(tmp_path / "rooms.csv")]) == 0
    assert (tmp_path / "rooms.csv").read_bytes() == (FOLDER / "rooms.csv").read_bytes()


@pytest.mark.slow
def test_the_log_of_prices_is_what_its_script_writes(tmp_path):
    from prices_log import main as write

    assert write(["--output", str(tmp_path / "prices.csv.gz")]) == 0
    made, kept = (folder / "prices.csv.gz" for folder in (tmp_path, FOLDER))
    assert gzip.decompress(made.read_bytes()) == gzip.decompress(kept.read_bytes())


def test_the_example_of_prices_is_of_the_log():
    page = (FOLDER / "pricing-algorithms.md").read_text()
    shown = re.search(r"^```text\n(season,.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert shown is not None
    log = gzip.decompress((FOLDER / "prices.csv.gz").read_bytes()).decode()
    assert log.startswith(shown.group(1))


def test_the_example_of_rows_is_of_the_log():
    page = (FOLDER / "bring-your-own-logs.md").read_text()
    shown = re.search(r"^```text\n(day,.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert shown is not None
    assert (FOLDER / "rooms.csv").read_text().startswith(shown.group(1))
