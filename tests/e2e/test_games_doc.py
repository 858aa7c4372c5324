"""docs/how-to/games.md: what it shows runs."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml

from malfl_algos.cli.main import main
from malfl_algos.experiments.config import from_mapping
from malfl_env import MarkovGame

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "games.md").read_text(encoding="utf-8")
SECTIONS = {
    title: text for title, text in re.findall(r"### ([^\n]+)\n(.*?)(?=\n### |\Z)", PAGE, re.DOTALL)
}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_a_game_of_your_own(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(blocks(PAGE, "python")[0], {})
    game = MarkovGame.load("meeting.npz")
    assert (game.states, game.agents, game.start) == (("apart", "together"), ("alice", "bob"), 0)
    config = from_mapping(yaml.safe_load(blocks(PAGE, "yaml")[0]))
    assert config.markov_game("reversed").reward(0).tolist() == [1.0, 0.0]
    untold = from_mapping(yaml.safe_load(blocks(PAGE, "yaml")[1]))
    assert (untold.discount, untold.temperature) == (None, None)
    assert (untold.learners_discount, untold.learners_temperature) == (0.9, 0.4)


@pytest.mark.slow
@pytest.mark.parametrize("title", SECTIONS)
def test_demonstrations_run(title, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for text in blocks(SECTIONS[title], "python"):
        (tmp_path / "mygames.py").write_text(text)
    (commands,) = blocks(SECTIONS[title], "sh")
    try:
        for line in commands.splitlines():
            assert main(shlex.split(line)[1:]) == 0
    finally:
        sys.modules.pop("mygames", None)
    (epic,) = re.findall(r"^agent_0 +([0-9.]+)", capsys.readouterr().out.split("EPIC avg")[1], re.M)
    assert 0 <= float(epic) < 0.6
