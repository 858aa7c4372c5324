"""The option `--game` of every command, on a small game."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from malfl_algos.cli.main import main
from malfl_env import MarkovGame, games

SHORT = ["--iterations", "4", "--episodes", "60", "--episode-length", "25"]
OWN = ["--option", "reward_model=own_action", "--option", "improvement=0.0"]
RECOVER = ["recover", "learned/trace.npz", "--observer", "ma-lfl-bellman", *OWN]


@pytest.fixture
def learned(tmp_path, monkeypatch):
    """A current folder with two games and a trace of the two-step task."""
    monkeypatch.chdir(tmp_path)
    games.two_step().game.save("two.npz")
    games.labyrinth(depth=2).game.save("other.npz")
    options = ["--option", "keep_transitions=true"]
    command = ["learn", "q-learning", "--game", "two.npz", "--output-dir", "learned"]
    assert main([*command, *SHORT, *options]) == 0
    return tmp_path


def read(path: str) -> np.ndarray:
    with np.load(path) as found:
        return found["agent_0"]


@pytest.mark.slow
def test_rewards_of_any_game_by_command(learned, capsys) -> None:
    assert main([*RECOVER, "--game", "two.npz", "--output-dir", "known"]) == 0
    assert read("known/rewards.npz").shape == (3, 2)
    assert main([*RECOVER, "--game", "malfl_env.games:two_step", "--output-dir", "made"]) == 0
    np.testing.assert_array_equal(read("made/rewards.npz"), read("known/rewards.npz"))
    assert main([*RECOVER, "--game", "none", "--output-dir", "unknown"]) == 0
    origin = json.loads(Path("unknown/result.json").read_text())["made_from"]
    assert origin["game"] is None
    against = ["--ground-truth", "learned/ground_truth.npz", "--trace", "learned/trace.npz"]
    for name, place in (("two.npz", "known"), ("none", "unknown")):
        scored = ["score", f"{place}/rewards.npz", *against, "--game", name, "--json", "rows.json"]
        assert main(scored) == 0
        (row,) = json.loads(Path("rows.json").read_text())
        assert row["predicted_log_likelihood"] is not None
        assert row["pearson"] is not None
    checked = main(["check", "learned/trace.npz", "--game", "none", *OWN])
    assert checked in (0, 1)
    assert capsys.readouterr().out.splitlines()[-2].startswith(("believe", "do", "doubt", "  "))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([*RECOVER, "--output-dir", "x"], "--game none to estimate the dynamics from the trace"),
        ([*RECOVER, "--output-dir", "x", "--game", "other.npz"], "the game has no 'first'; it has"),
        ([*RECOVER, "--output-dir", "x", "--game", "absent.npz"], "absent.npz: no such file"),
        ([*RECOVER, "--output-dir", "x", "--game", "sys:maxsize"], "it must be a function"),
        (["learn", "--game", "none", "--output-dir", "x"], "game is none, and this needs a game"),
        (["reproduce", "--game", "none", "--output-dir", "x"], "game is none, and this needs"),
        (["check", "learned/trace.npz", "--game", "os:getcwd"], "os:getcwd made a str"),
    ],
)
def test_wrong_games_take_one_line(learned, capsys, argv, message) -> None:
    before = set(Path().rglob("*"))
    capsys.readouterr()
    assert main(argv) == 2
    shown = capsys.readouterr().err.strip().splitlines()
    assert message in shown[-1]
    assert set(Path().rglob("*")) == before


@pytest.mark.slow
def test_a_run_and_a_sweep_of_a_game(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    moves = [[[0, 1], [1, 0]], [[1, 0], [0, 1]]]
    MarkovGame.from_tables(moves, rewards=[[0.0, 1.0], [1.0, 0.0]], start=0).save("tiny.npz")
    observers = ["--observers", "ma-lfl-bellman", "log-policy"]
    command = [
        "reproduce",
        *SHORT,
        "--seeds",
        "0",
        *observers,
        "--jobs",
        "1",
        "--output-dir",
        "run",
    ]
    assert main([*command, "--game", "tiny.npz"]) == 0
    assert yaml.safe_load(Path("run/config.yaml").read_text())["game"] == "tiny.npz"
    rows = json.loads(Path("run/summary.json").read_text())["results"]
    assert {row["family"] for row in rows} == {"own"}
    drawn = {path.stem for path in Path("run/figures").iterdir()}
    assert {"learning_own", "policies_own", "evidence_own_ma-lfl-bellman"} <= drawn
    assert {f"{kind}_own_ma-lfl-bellman" for kind in ("intervals", "truth")} <= drawn
    assert not any(name.startswith(("rewards", "deviations", "cross")) for name in drawn)
    assert main(["verify", "run"]) == 0
    assert main([*command, "--game", "malfl_env.games:two_step"]) == 2
    assert main([*command, "--game", "tiny.npz"]) == 0, "nothing is left to do"
    MarkovGame.from_tables(moves, rewards=[[0.0, 2.0], [1.0, 0.0]], start=0).save("tiny.npz")
    capsys.readouterr()
    assert main([*command, "--game", "tiny.npz"]) == 2
    assert "the game tiny.npz has changed since" in capsys.readouterr().err
    base = {"iterations": 3, "episodes": 20, "episode_length": 10, "observers": ["log-policy"]}
    grid = {"temperature": [1.0, 2.0], "seeds": [0]}
    Path("sweep.yaml").write_text(yaml.safe_dump({"base": base, "grid": grid}))
    swept = ["sweep", "sweep.yaml", "--game", "tiny.npz", "--output-dir", "swept", "--jobs", "1"]
    assert main(swept) == 0


def test_code_in_the_current_folder(tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("from malfl_env.games import two_step\n")
    try:
        command = ["learn", "--game", "mine:two_step", "--output-dir", "x", *SHORT]
        assert main(command) == 0
    finally:
        sys.modules.pop("mine", None)
    assert any(f"runs the code of {tmp_path}/mine.py" in own for own in caplog.messages)
