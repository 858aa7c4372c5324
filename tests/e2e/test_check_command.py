"""`malfl check`, and the verdict that `malfl recover` prints and saves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from malfl_algos.cli.main import main

SMALL = ("--episodes", "60", "--episode-length", "200", "--iterations", "4")


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learned")
    learn = ["learn", *SMALL, "--option", "evaluation=exact", "--output-dir", str(folder)]
    assert main(learn) == 0
    return folder / "trace.npz"


@pytest.fixture
def walls(tmp_path):
    """A configuration with a wall where the agents of the trace walked."""
    path = tmp_path / "walls.yaml"
    path.write_text("game: {walls: [[1, 1]]}\n")
    return str(path)


def test_the_first_line_begins_with_the_word(trace, capsys):
    status = main(["check", str(trace)])
    first, *further = capsys.readouterr().out.splitlines()
    word = next(w for w in ("believe", "doubt", "do not believe") if first.startswith(w))
    assert status == (0 if word == "believe" else 1)
    assert all(line.startswith(("  reason: ", "  try: ")) for line in further)


def test_json_has_all_numbers(trace, capsys):
    main(["check", str(trace), "--json", "--discount", "0.5"])
    content = json.loads(capsys.readouterr().out)
    assert content["agents"]["agent_0"]["numbers"]["discount"] == 0.5
    assert 0 <= content["agents"]["agent_0"]["numbers"]["p_value"] <= 1


def test_an_impossible_trace_is_rejected_by_recover_and_not_believed_by_check(
    trace, walls, tmp_path, capsys
):
    to = str(tmp_path / "recovered")
    wrong = [str(trace), "--observer", "ma-lfl-bellman", "--config", walls]
    assert main(["recover", *wrong, "--output-dir", to]) == 2
    assert not Path(to).exists()
    reason = "visits joint state 4, which the given game cannot reach"
    assert reason in capsys.readouterr().err
    assert main(["check", *wrong]) == 1
    out = capsys.readouterr().out
    assert out.startswith("do not believe: ")
    assert reason in out


@pytest.mark.parametrize(
    "wrong",
    [["--discount", "1.5"], ["--temperature", "0"], ["--observer", "unknown"], ["--option", "x"]],
)
def test_bad_input(trace, wrong, capsys):
    assert main(["check", str(trace), *wrong]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("malfl: ")
    assert len(err.splitlines()) == 1


def test_recover_prints_and_saves_the_verdict(trace, tmp_path, capsys):
    to = tmp_path / "recovered"
    assert main(["recover", str(trace), "--observer", "lfl", "--output-dir", str(to)]) == 0
    assert "\nverdict: do" in "\n" + capsys.readouterr().out  # doubt, or do not believe
    saved = json.loads((to / "result.json").read_text())["verdict"]
    assert saved["word"] in ("doubt", "do not believe")
    assert set(saved["agents"]) == {"agent_0", "agent_1"}
    main(["score", str(to / "rewards.npz"), "--trace", str(trace), "--json", str(to / "s.json")])
    rows = json.loads((to / "s.json").read_text())
    assert {row["verdict"] for row in rows} <= {"doubt", "do not believe"}


def test_too_few_stages_are_doubted_with_the_missing_number(tmp_path, capsys):
    to = str(tmp_path / "short")
    main(
        [
            "learn",
            "--episodes",
            "5",
            "--episode-length",
            "20",
            "--iterations",
            "2",
            "--output-dir",
            to,
        ]
    )
    capsys.readouterr()
    assert main(["check", f"{to}/trace.npz"]) == 1
    assert "are missing: it needs two improvements (3 stages)" in capsys.readouterr().out
