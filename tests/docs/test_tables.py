"""The pages of docs/tables: their commands are those of scripts, and tables go below them."""

from __future__ import annotations

import pytest
from tables import TABLES, WRITTEN, commands_of, main, with_tables


@pytest.mark.parametrize("name", WRITTEN)
def test_the_tables_of_a_page_are_replaced_and_the_rest_stays(name):
    page = (TABLES / f"{name}.md").read_text(encoding="utf-8")
    head, _, tables = page.partition("```\n\n")
    assert commands_of(page)
    assert with_tables(page, tables) == page
    assert with_tables(page, "## New\n") == f"{head}```\n\n## New\n"


def test_commands_are_run_in_the_folder_and_the_page_is_written(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr("tables.TABLES", tmp_path / "docs" / "tables")
    monkeypatch.setattr("tables.subprocess.run", lambda command, **how: ran.append((command, how)))
    file = tmp_path / "docs" / "tables" / "study.md"
    file.parent.mkdir(parents=True)
    file.write_text("# The study\n\n```sh\npython scripts/study.py --x docs/a\n```\n\n## Old\n")
    (tmp_path / "work" / "study").mkdir(parents=True)
    (tmp_path / "work" / "study" / "study.md").write_text("## New\n")
    assert main(["--pages", "study", "--folder", str(tmp_path / "work")]) == 0
    assert file.read_text().endswith("```\n\n## New\n")
    ((command, how),) = ran
    assert command[1:] == [str(tmp_path / place) for place in ("scripts/study.py",)] + [
        "--x",
        str(tmp_path / "docs" / "a"),
    ]
    assert how["cwd"] == tmp_path / "work"
