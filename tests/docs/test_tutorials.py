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
