"""`malfl import`: usual names, options, what is printed, outputs that are complete or absent."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pyarrow")

from malfl_algos import LearningTrace
from malfl_algos.cli.main import main
from malfl_env import MarkovGame

HEADER = "mouse,episode,step,state,action,next_state,round\n"
ROWS = [
    f"m{m},{e},{t},{(t + e) % 3},{'LR'[t % 2]},{(t + 1 + e) % 3},{e // 2}"
    for m in range(2)
    for e in range(4)
    for t in range(5)
]


@pytest.fixture(autouse=True)
def log(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.csv").write_text(HEADER + "\n".join(ROWS))
    (tmp_path / "one.csv").write_text(HEADER + "\n".join(ROWS[:20]))


def run(*argv):
    return main(["import", *argv])


def test_columns_of_the_usual_names_need_no_options(capsys):
    assert run("one.csv", "--output", "t.npz", "--stages", "2") == 0
    assert capsys.readouterr().out.splitlines() == [
        "t.npz: 2 stages of 10, 10 steps",
        "  states: 3, 3 of them visited",
        "  agent agent_0: 2 actions (L, R)",
        "  columns: state state, episode episode, step step, next_state next_state, actions "
        "agent_0=action",
        "  not used: mouse, round",
        "  stages: 2 parts with about equally many steps, cut between episodes",
    ]
    trace = LearningTrace.load("t.npz")
    assert (trace.n_stages, trace.actions) == (2, (("L", "R"),))


def test_the_same_as_in_python(capsys):
    given = ["--actions", "alice=action", "--stage", "round", "--n-states", "5"]
    assert run("one.csv", "--output", "t.npz", *given, "--n-actions", "alice=2") == 0
    with open("one.csv") as stream:
        names, *rows = [line.strip().split(",") for line in stream]
    table = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    table |= {n: np.array(table[n], int) for n in ("episode", "step", "state", "round")}
    table["next_state"] = np.array(table["next_state"], int)
    wanted = LearningTrace.from_table(
        table,
        state="state",
        actions={"alice": "action"},
        episode="episode",
        step="step",
        stage="round",
        next_state="next_state",
        n_states=5,
    )
    found = LearningTrace.load("t.npz")
    assert (found.agents, found.actions) == (wanted.agents, wanted.actions)
    for one, other in zip(found.stages, wanted.stages, strict=True):
        np.testing.assert_array_equal(one.joint_counts, other.joint_counts)


def test_subjects(capsys):
    assert run("log.csv", "--output", "t.npz", "--stages", "2", "--subject", "mouse") == 0
    assert "2 subjects are pooled" in capsys.readouterr().out
    assert run("log.csv", "--output", "t", "--stages", "2", "--subject", "mouse", "--separate") == 0
    assert LearningTrace.load("t/m1.npz").notes[-2:] == (
        "subject m1 alone",
        "stages: 2 parts with about equally many steps, cut between episodes",
    )
    assert LearningTrace.load("t.npz").n_stages == LearningTrace.load("t/m0.npz").n_stages == 2


def test_the_names_of_a_game(capsys):
    game = MarkovGame.from_tables(np.zeros((4, 3), int), actions=[["stay", "R", "L"]])
    game.save("game.npz")
    given = ["one.csv", "--output", "t.npz", "--stages", "2", "--game", "game.npz"]
    assert run(*given) == 0
    trace = LearningTrace.load("t.npz")
    assert (trace.n_states, trace.actions) == (4, (("stay", "R", "L"),))
    MarkovGame.from_tables(np.zeros((4, 2), int), actions=[["stay", "R"]]).save("game.npz")
    assert run(*given, "--overwrite") == 2
    assert "one.csv: row 2: the action of agent_0 is 'L', which the game" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["one.csv", "--output", "log.csv", "--stages", "2"], "log.csv exists: choose another"),
        (["one.csv", "--output", "t", "--separate"], "--separate needs --subject COL"),
        (["one.csv", "--output", "t.npz"], "one.csv: say how time is cut into stages by one of"),
        (["one.csv", "--output", "t.npz", "--stages", "2", "--change-points"], "got --stages"),
        (["one.csv", "--output", "t.npz", "--stages", "0"], "--stages must be a whole number >="),
        (["log.csv", "--output", "t.npz", "--stages", "2"], "log.csv: row 22 (episode 0, step 0)"),
        (["one.csv", "--output", "t.npz", "--actions", "x"], "--actions must be AGENT=VALUE, got"),
        (["one.csv", "--output", "t.npz", "--actions", "x=a", "x=b"], "the agent 'x' twice"),
        (["one.csv", "--output", "log.csv/t.npz", "--stages", "2"], "log.csv is a file"),
        (["one.csv", "--output", "t.npz", "--n-actions", "x"], "--n-actions must be AGENT=VALU"),
        (["one.csv", "--output", "t.npz", "--n-actions", "x=y"], "--n-actions must be AGENT=N o"),
        (
            ["one.csv", "--output", "t.npz", "--state", "x", "--stages", "2"],
            "there is no column 'x'",
        ),
        (["one.csv", "--output", "t.npz", "--agent", "mouse", "--stages", "2"], "name the colum"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(argv, words, tmp_path, capsys):
    before = sorted(tmp_path.rglob("*"))
    assert run(*argv) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert words in lines[0]
    assert sorted(tmp_path.rglob("*")) == before


def test_subjects_whose_names_are_paths(tmp_path, capsys):
    text = (tmp_path / "log.csv").read_text().replace("m1,", "../m1,")
    (tmp_path / "log.csv").write_text(text)
    given = ["log.csv", "--output", "t", "--stages", "2", "--subject", "mouse", "--separate"]
    assert run(*given) == 2
    assert "subject '../m1' cannot name a file" in capsys.readouterr().err
    assert not (tmp_path / "t").exists()


def test_a_trace_needs_no_import(capsys):
    assert run("one.csv", "--output", "t.npz", "--stages", "2") == 0
    assert run("t.npz", "--output", "u.npz") == 2
    assert "this is a file of malfl already" in capsys.readouterr().err


def test_labels_that_hardly_occur_blanks_in_names_and_decimal_commas_are_told(capsys):
    rows = [f"{e};{t};{(t + e) % 3};go;{1 + t % 2},5;x" for e in range(20) for t in range(6)]
    rows[7] = rows[7].replace("go", "Go")
    header = "day;step;state;own move;price;grey\n"
    with open("wide.csv", "w") as stream:
        stream.write(header + "\n".join(rows))
    given = ["--episode", "day", "--actions", "red=own move", "blue=price", "--stages", "1"]
    assert run("wide.csv", "--output", "t.npz", *given) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "t.npz: 1 stage of 100 steps"
    assert "  commas are decimal signs in 'price'" in lines
    assert "  not used: grey" in lines
    assert "  action 'Go' of agent red occurs once: a typo?" in lines
    assert any("'red=own move' blue=price" in line for line in lines)


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        (
            ["0,0,0,L", "0,1,1,L", "0,3,1,L"],
            [],
            "(1 gap in all); give the missing rows",
        ),
        (["0,0,0,L", "0,1,1,L", "0,3,1,L"], [], "or --gaps split to end"),
        (["0,0,-1,L", "0,1,1,L"], [], "(or labels, or --compact)"),
        (["0,0,0,L", "0,1,1,L"], ["--stages", "0"], "--stages must be a whole number >= 1"),
        (["0,0,0,L", "0,1,1,L"], ["--memory", "7"], "--memory is 7, and no episode has more"),
    ],
)
def test_errors_name_options_of_the_command(rows, options, words, capsys):
    with open("short.csv", "w") as stream:
        stream.write("episode,step,state,action\n" + "\n".join(rows))
    cut = [] if "--stages" in options else ["--stages", "1"]
    assert run("short.csv", "--output", "t.npz", *cut, *options) == 2
    assert words in capsys.readouterr().err


def test_a_log_in_the_place_of_a_trace(capsys):
    for command in (["check", "log.csv"], ["recover", "log.csv", "--observer", "log-policy"]):
        further = ["--output-dir", "x"] if command[0] == "recover" else []
        assert main([*command, "--game", "none", *further]) == 2
        said = capsys.readouterr().err
        assert "log.csv is a log, not a trace: make a trace of it with malfl import" in said


def test_a_misspelt_command(capsys):
    assert main(["imprt", "log.csv"]) == 2
    assert "did you mean 'import'?" in capsys.readouterr().err
