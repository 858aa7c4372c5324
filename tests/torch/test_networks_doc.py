"""docs/how-to/networks.md: its blocks run, in small, with the games that it names."""

from __future__ import annotations

import pytest
from pages import DOCS, outputs

SMALLER = {
    "episodes=1600": "episodes=40",
    "q_updates=1000": "q_updates=20",
    "policy_updates=300": "policy_updates=20",
    "/ 1600": "/ 40",
    "ensemble=5": "ensemble=1, epochs=5, max_rows=100, widths=(16,)",
}
PAGE = DOCS / "how-to" / "networks.md"


@pytest.mark.slow
def test_the_blocks_run(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    printed = {block.text.splitlines()[0]: own for block, own in outputs(PAGE, SMALLER)}
    assert len(printed) == 4
    returns = printed["import numpy as np"]
    assert len(returns.split(",")) == 3
