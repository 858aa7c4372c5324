"""The logs beside the tutorials are what their scripts write, and what the pages show of them."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "tutorials"


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


@pytest.mark.parametrize("page", sorted(FOLDER.glob("*.md")), ids=lambda page: page.stem)
def test_a_tutorial_says_whom_it_is_for_and_what_they_will_have(page):
    opening = page.read_text(encoding="utf-8").split("\n\n")[1]
    assert re.match(r"For (people|readers) ", opening)
    assert "At the end " in opening.replace("\n", " ")
