"""The code in README runs, and the linked files exist."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]


def test_python_blocks_run(capsys):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names: list[dict[str, object]] = [{} for _ in blocks]
    for block, here in zip(blocks, names, strict=True):
        exec(compile(block, "README.md", "exec"), here)
    found = names[0]["found"].rewards["agent_0"]
    truth = names[0]["markov_game"](names[0]["env"]).reward(0)
    assert np.corrcoef(found, truth)[0, 1] > 0.5
    assert names[1]["env"].possible_agents == ["agent_0", "agent_1", "agent_2"]
    assert "identified" in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_exist(page):
    targets = re.findall(r"\]\(([^)#]+)", page.read_text())
    for target in targets:
        if not target.startswith("http") and target != "genindex":  # of the site
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_two_commands_install_what_exists():
    shell = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert 'pip install ".[algos]"' in shell[0]
    assert "malfl reproduce" in shell[0]
    assert 'pip install ".[test]"' in shell[1]
    assert shell[1].rstrip().endswith("pytest")
