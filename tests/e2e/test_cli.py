import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_plugins import install, install_text
from interpreter import printed

from malfl_algos.cli.experiments import FAST
from malfl_algos.cli.main import main, make_parser
from malfl_algos.experiments.config import ExperimentConfig

pytestmark = pytest.mark.usefixtures("fakes_in_an_empty_folder")
SMALL = ["--learner", "fake", "--observers", "counting", "--iterations", "3", "--seeds", "0"]
REPOSITORY = Path(__file__).parents[2]


def _files() -> set[str]:
    return {path.as_posix() for path in Path().rglob("*")}


def _option_help(command: str) -> str:
    (commands,) = (a for a in make_parser()._actions if a.dest == "command")
    assert commands.choices is not None
    text = commands.choices[command].format_help()  # type: ignore[call-overload]
    return re.sub(r"(?<=\w-)\n\s*", "", text)  # argparse breaks lines at hyphens


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        ("", "the following arguments are required: COMMAND"),
        ("reprodce", "invalid choice: 'reprodce'"),
        ("reproduce --episode 3", "unknown argument '--episode', did you mean '--episodes'?"),
        ("reproduce --episodes abc", "--episodes: must be a whole number, got 'abc'"),
        ("reproduce --episodes 1.5", "--episodes: must be a whole number, got '1.5'"),
        ("reproduce --episodes 0", "episodes must be a whole number from 1 to .* got 0"),
        ("reproduce --episodes -3", "episodes must be a whole number from 1 to .* got -3"),
        ("reproduce --iterations 1", "iterations must be a whole number from 2"),
        ("reproduce --seeds 1 1", "seeds must be distinct, duplicate value 1"),
        ("reproduce --seeds", "--seeds: expected at least one argument"),
        ("reproduce --jobs 0", "jobs must be a whole number >= 1, got 0"),
        ("reproduce --seat inside", "--seat: invalid choice: 'inside'"),
        ("reproduce --reward-families homogenous", "'homogenous', did you mean 'homogeneous'"),
        ("reproduce --learner fak", "unknown learner 'fak', did you mean 'fake'"),
        ("reproduce --observers countin", "unknown observer 'countin', did you mean 'counting'"),
        ("reproduce --config absent.yaml", "absent.yaml: cannot be read"),
        ("reproduce --config ../empty.yaml", "the file is empty"),
        ("reproduce --config ../list.yaml", "expected a mapping"),
        ("reproduce --config ../misspelt.yaml", "unknown key 'sedes', did you mean 'seeds'"),
        ("reproduce --config ../discount.yaml", r"discount must be in \[0, 1\) or null, got 1.5"),
        ("reproduce --config ../wall.yaml", "game: .*wall"),
        ("reproduce --config ../shape.yaml", r"families.mine.*\(81,"),
        ("reproduce --config ../option.yaml", "observer 'counting': unknown key 'shft'.*'shift'"),
        ("reproduce --config ../refused.yaml", "learner 'fake': scale must be > 0, got -1"),
        ("reproduce --output-dir ../list.yaml", "list.yaml is a file"),
        ("reproduce --output-dir ..", "not empty and not the folder of a run"),
        ("learn fak --output-dir out", "unknown learner 'fak'"),
        ("learn fake", "required: --output-dir"),
        ("learn fake --output-dir out --option scale", "--option must be KEY=VALUE, got 'scale'"),
        ("learn fake --output-dir out --option scale=[", "--option scale: not valid YAML"),
        ("learn fake --output-dir out --option scale=x", "scale must be a finite number, got 'x'"),
        ("learn fake --output-dir out --seed -1", "seeds must be a whole number from 0"),
        ("learn fake --output-dir out --reward-family x", "unknown family 'x'"),
        ("recover absent.npz --observer counting --output-dir out", "absent.npz: no such file"),
        ("recover ../cut.npz --observer counting --output-dir out", "cut.npz: not a readable npz"),
        ("recover ../list.yaml --observer x --output-dir out", "unknown observer 'x'"),
        ("score ../list.yaml --ground-truth ../cut.npz", "list.yaml: not a readable npz"),
        ("score ../list.yaml --ground-truth absent.npz", "absent.npz: no such file"),
        ("score ../list.yaml", "give --ground-truth FILE"),
        ("verify absent", "absent: no such file or folder"),
        ("verify ../list.yaml", "list.yaml"),
        ("sweep absent.yaml --output-dir out", "absent.yaml: no such file"),
        ("sweep ../list.yaml --output-dir out", "list.yaml: expected a mapping"),
        ("export absent.npz --format parquet --output out", "absent.npz: no such file"),
        ("export ../cut.npz --format parquet --output out", "cut.npz: not a readable npz"),
        ("plugins docter", "invalid choice: 'docter'"),
        ("learn fak --help", "unknown learner 'fak', did you mean 'fake'"),
        (
            "recover --observer countin --help",
            "unknown observer 'countin', did you mean 'counting'",
        ),
        ("recover --help --observer x", "unknown observer 'x'; installed: "),
        (
            "reproduce --learner sb3-none --observers counting",
            "(it is part of malfl-sb3|unknown learner)",
        ),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: str, complaint: str
) -> None:
    own: dict[str, Any] = {"learner": "fake", "observers": ["counting"]}
    for name, content in {
        "empty": "",
        "list": "[1, 2]",
        "misspelt": {"sedes": [1]},
        "discount": {"discount": 1.5},
        "wall": own | {"game": {"walls": [[0, 0]]}},
        "shape": own | {"families": {"mine": [[1.0], "avoid"]}, "reward_families": ["mine"]},
        "option": own | {"observers": [{"name": "counting", "options": {"shft": 1}}]},
        "refused": own | {"learner": {"name": "fake", "options": {"scale": -1}}},
    }.items():
        text = content if isinstance(content, str) else yaml.safe_dump(content)
        (tmp_path / f"{name}.yaml").write_text(text)
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 and no more")
    assert main(argv.split()) == 2
    out, err = capsys.readouterr()
    assert re.fullmatch(f"malfl: .*{complaint}.*\n", err)
    assert out == ""
    assert _files() == set()


@pytest.mark.parametrize(
    "command",
    ["", "reproduce", "learn", "recover", "score", "plugins", "verify", "sweep", "export"],
)
def test_help_is_light(command: str) -> None:
    told = printed(
        "import sys\nfrom malfl_algos.cli.main import main",
        "try: main([*sys.argv[1:], '--help'])",
        "except SystemExit as end: assert end.code == 0",
        "heavy = {'numba', 'matplotlib', 'scipy', 'torch', 'pandas', 'pygame'} & set(sys.modules)",
        "assert not heavy, heavy",
        argv=tuple(command.split()),
    )
    assert "usage: malfl" in told


def test_help_states_the_defaults():
    text, default = _option_help("reproduce"), ExperimentConfig()
    for option, value in {
        "--reward-families": " ".join(default.reward_families),
        "--iterations": default.iterations,
        "--episodes": default.episodes,
        "--episode-length": default.episode_length,
        "--seeds": " ".join(map(str, default.seeds)),
        "--learner": default.learner.name,
        "--observers": " ".join(observer.name for observer in default.observers),
        "--seat": default.seat,
    }.items():
        assert re.search(rf"{option} [^(]*\(default: {value}\)", " ".join(text.split())), option
    assert FAST == {"iterations": 4, "episodes": 100, "episode_length": 200, "seeds": [0]}
    assert "4 iterations, 100 episodes of 200 steps, seed 0" in " ".join(text.split())


def test_reproduce_prints_the_table_and_where_things_are(capsys):
    assert main(["reproduce", *SMALL, "--output-dir", "out", "--jobs", "1"]) == 0
    out, err = capsys.readouterr()
    lines = [line.split() for line in out.splitlines()]
    summary = json.loads(Path("out/summary.json").read_text())
    first = summary["results"][0]
    assert lines[2][:3] == ["homogeneous", "counting", "agent_0"]
    scores = [f"{first['pearson']:.3f}", f"{first['spearman']:.3f}"]
    assert lines[2][3:] == [*scores, *first["verdict"].split()]
    assert "Whether Pearson r is highest with the ground truth of the family itself" in out
    assert out.splitlines()[-1] == "Tables: out; figures: out/figures"
    assert "learning: 1 of 2: family homogeneous, seed 0, learner 'fake': done" in err


def test_a_second_call_into_the_same_folder(capsys):
    argv = ["reproduce", *SMALL, "--output-dir", "out", "--jobs", "1"]
    assert main(argv) == 0
    before = {path: path.read_bytes() for path in Path("out").rglob("*.npz")}
    assert main(argv) == 0
    assert "learning: nothing is missing" in capsys.readouterr().err
    assert main([*argv, "--episodes", "9"]) == 2
    assert re.fullmatch(
        "malfl: out holds another run: episodes is 3000 in the folder, but 9 was requested; "
        ".*--overwrite\n",
        capsys.readouterr().err,
    )
    assert {path: path.read_bytes() for path in Path("out").rglob("*.npz")} == before
    assert main([*argv, "--episodes", "9", "--overwrite"]) == 0


def test_fast_goes_before_the_file_and_gives_way_to_options():
    Path("own.yaml").write_text("{iterations: 7, episodes: 77, discount: 0.5}")
    argv = ["reproduce", "--config", "own.yaml", "--fast", *SMALL, "--jobs", "1"]
    assert main([*argv, "--output-dir", "out", "--iterations", "5"]) == 0
    config = yaml.safe_load(Path("out/config.yaml").read_text())
    assert (config["iterations"], config["episodes"], config["discount"]) == (5, 100, 0.5)
    assert (config["episode_length"], config["seeds"]) == (200, [0])


def test_observers_are_picked_by_label_from_the_file():
    Path("own.yaml").write_text(
        "observers: [{name: counting, label: mine, options: {shift: 2.5}}, needy]"
    )
    argv = ["reproduce", "--config", "own.yaml", *SMALL, "--jobs", "1", "--output-dir", "out"]
    argv[argv.index("counting")] = "mine"
    assert main(argv) == 0
    config = yaml.safe_load(Path("out/config.yaml").read_text())
    assert config["observers"] == [{"name": "counting", "label": "mine", "options": {"shift": 2.5}}]


def test_a_failing_unit_ends_with_status_1(capsys):
    argv = ["reproduce", *SMALL, "--output-dir", "out", "--jobs", "1"]
    argv[argv.index("counting")] = "failing"
    argv[argv.index("--seeds") + 1] = "1"
    assert main(argv) == 1
    assert capsys.readouterr().err.splitlines()[-2:] == [
        f"malfl: family {family}, seed 1, observer 'failing': RuntimeError: the disk is on fire"
        for family in ("homogeneous", "heterogeneous")
    ]


def test_learn_recover_score_step_by_step_is_the_same_as_reproduce(capsys):
    Path("small.yaml").write_text("game: {size: 2}")
    game = ["--config", "small.yaml"]
    assert main(["reproduce", *game, *SMALL, "--output-dir", "whole", "--jobs", "1"]) == 0
    counts = [*game, "--iterations", "3"]
    family = ["--reward-family", "heterogeneous"]
    assert main(["learn", "fake", "--output-dir", "trace", *counts, *family]) == 0
    unit = Path("whole/heterogeneous/seed_0")
    for name in ("trace.npz", "ground_truth.npz"):
        assert Path("trace", name).read_bytes() == (unit / "fake" / name).read_bytes()
    recover = ["recover", "trace/trace.npz", "--observer", "counting", "--output-dir", "rewards"]
    assert main([*recover, *game]) == 0
    for name in ("rewards.npz", "diagnostics.json", "posterior.npz"):
        assert Path("rewards", name).read_bytes() == (unit / "counting" / name).read_bytes()
    assert json.loads(Path("rewards/diagnostics.json").read_text())["agent_0"]["noise"] is None
    capsys.readouterr()
    score = ["score", "rewards/rewards.npz", "--ground-truth", "trace/ground_truth.npz"]
    assert main([*score, "--json", "scores.json"]) == 0
    rows = json.loads(Path("scores.json").read_text())
    whole = json.loads(Path("whole/summary.json").read_text())["results"]
    expected = [row for row in whole if row["family"] == "heterogeneous"]
    assert [row["pearson"] for row in rows] == [row["pearson"] for row in expected]
    assert f"agent_1  {rows[1]['pearson']:.3f}" in capsys.readouterr().out


def test_files_are_not_replaced_unasked(capsys):
    argv = ["learn", "fake", "--output-dir", "out", "--iterations", "2"]
    assert main(argv) == 0
    before = Path("out/trace.npz").read_bytes()
    assert main([*argv, "--seed", "4"]) == 2
    assert (
        "out/trace.npz exists: choose another folder, or add --overwrite" in capsys.readouterr().err
    )
    assert Path("out/trace.npz").read_bytes() == before
    assert main([*argv, "--seed", "4", "--overwrite"]) == 0
    assert Path("out/trace.npz").read_bytes() != before


def test_a_trace_of_another_game_is_rejected(capsys):
    assert main(["learn", "fake", "--output-dir", "out", "--iterations", "2"]) == 0
    Path("own.yaml").write_text("game: {size: 2}")
    argv = ["recover", "out/trace.npz", "--observer", "counting", "--output-dir", "rewards"]
    assert main([*argv, "--config", "own.yaml"]) == 2
    assert "is of a game with 81 joint states" in capsys.readouterr().err
    assert not Path("rewards").exists()


def test_plugins_are_listed_with_where_they_come_from(capsys):
    assert main(["plugins"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["observer", "counting", "fakes", "1.2", "fake_plugins:CountingObserver"] in lines


def test_doctor_separates_working_plugins_from_broken_ones(tmp_path, monkeypatch, capsys):
    broken = {"malfl.observers": {"broken": "no_such_module_here:Thing"}}
    assert main(["plugins", "doctor"]) == 0
    install(tmp_path / "plugins", monkeypatch, broken, name="others")
    assert main(["plugins", "doctor"]) == 1
    out = capsys.readouterr().out
    assert "ok      learner 'fake' of distribution 'fakes' 1.2" in out
    assert "broken  observer 'broken' of distribution 'others' 1.2" in out
    assert "ModuleNotFoundError: No module named 'no_such_module_here'" in out
    assert "Traceback" in out


def test_broken_plugins_are_marked_and_do_not_affect_others(tmp_path, monkeypatch, capsys):
    entries = {
        "malfl.learners": {"fake": "a.b:C", "bent": "no colon", "ok": "fake_plugins:FakeLearner"}
    }
    install(tmp_path / "plugins", monkeypatch, entries, name="others")
    install_text(tmp_path / "plugins", monkeypatch, b"malfl.learners \xff", name="garbled")
    assert main(["plugins"]) == 0
    out = capsys.readouterr().out
    assert "[two distributions use this name: write fakes:fake]" in out
    assert "[two distributions use this name: write others:fake]" in out
    assert "[malformed entry 'no colon', expected 'module:Class']" in out
    assert "unreadable: distribution 'garbled' 1.2: entry_points.txt: 'utf-8' codec" in out
    assert main(["plugins", "doctor"]) == 1
    out = capsys.readouterr().out
    assert "broken  distribution 'garbled' 1.2" in out
    assert "broken  learner 'bent' of distribution 'others' 1.2" in out
    assert "clash   learner 'fake' of distribution 'fakes' 1.2" in out
    assert "note: the name is also used by 'others' 1.2: write 'fakes:fake'" in out
    assert "ok      learner 'ok' of distribution 'others' 1.2" in out
    assert main(["learn", "fakes:fake", "--output-dir", "out", "--iterations", "2"]) == 0


def test_check_runs_every_conformance_test_of_a_plugin(tmp_path, monkeypatch, capsys):
    """An error does not keep the other checks from running; the same error is shown once."""
    (tmp_path / "tried_plugins.py").write_text(
        "from dataclasses import dataclass\n"
        "from malfl_algos.observers.log_policy import LogPolicy\n"
        "@dataclass(frozen=True)\n"
        "class Exits(LogPolicy):\n"
        "    'Exits.'\n"
        "    def recover(self, trace, **given):\n"
        "        raise SystemExit(0)\n"
        "@dataclass(frozen=True)\n"
        "class NotFrozen:\n"
        "    pass\n"
    )
    entries = {"malfl.observers": {"exits": "tried_plugins:Exits", "bad": "tried_plugins:None"}}
    install(tmp_path / "plugins", monkeypatch, entries, name="tried")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["plugins", "check", "exits"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "observer 'exits' of distribution 'tried' 1.2"
    assert "FAILED  repetition: call raised: SystemExit: 0 (2x2 grid world)" in out
    assert "FAILED  inputs: the same error as above" in out
    assert len([line for line in out if line.startswith("FAILED")]) >= 5
    assert main(["plugins", "check", "bad"]) == 1
    assert "FAILED  declaration: not a plugin" in capsys.readouterr().out
    assert main(["plugins", "check", "log-policy"]) == 0
    out = capsys.readouterr().out
    assert "ok      ground truth" in out
    assert out.endswith("no errors found\n")
    for argv in ("check", "check unknown", "check log-policy --option sed=1", "list log-policy"):
        assert main(["plugins", *argv.split()]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_doctor_notes_what_authors_should_look_at(tmp_path, monkeypatch, capsys):
    (tmp_path / "noted_plugin.py").write_text(
        "from dataclasses import dataclass\nfrom typing import ClassVar\n"
        "@dataclass(frozen=True)\nclass Noted:\n"
        '    discount: float\n    """Said."""\n    mood: float\n'
        "    api_version: ClassVar[tuple[int, int]] = (2, 0)\n"
        "    def learn(self, env, *, n_stages, rng): ...\n"
        "@dataclass(frozen=True)\nclass Fussy:\n"
        "    api_version: ClassVar[tuple[int, int]] = (2, 0)\n"
        "    def __post_init__(self): raise ValueError('never')\n"
        "    def learn(self, env, *, n_stages, rng): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    entries = {"malfl.learners": {"Noted": "noted_plugin:Noted", "fussy": "noted_plugin:Fussy"}}
    install(tmp_path / "plugins", monkeypatch, entries, name="others")
    assert main(["plugins", "doctor"]) == 1
    noted = capsys.readouterr().out.partition("ok      learner 'Noted'")[2].splitlines()[1:4]
    assert [line.strip() for line in noted] == [
        "note: option 'mood' has no default, and an experiment does not fill it in: users must "
        "always give it (--option mood=...)",
        "note: option 'mood' has no documentation",
        "note: 'Noted' cannot be the name of a folder (allowed: lower-case letters, digits, "
        "hyphens): users must give a label in YAML",
    ]
    assert main(["plugins", "doctor"]) == 1
    assert "broken  learner 'fussy'" in capsys.readouterr().out


def test_help_lists_the_options_of_a_plugin(tmp_path, monkeypatch, capsys):
    broken = {"malfl.observers": {"broken": "no_such_module_here:Thing"}}
    install(tmp_path / "plugins", monkeypatch, broken, name="others")
    Path("own.yaml").write_text("observers: [{name: counting, label: mine}]")
    for argv, told in (
        ("learn fake --help", "mode: one of 'well', 'short', 'misshapen' (default: 'well')"),
        ("learn -h fake", "options of learner 'fake' (fakes 1.2)"),
        ("recover --observer counting --help", "shift: a finite number (default: 0.0)"),
        ("recover --help x.npz --observer fakes:counting", "options of observer 'counting'"),
        ("recover --config own.yaml --observer mine --help", "options of observer 'counting'"),
    ):
        with pytest.raises(SystemExit) as end:
            main(argv.split())
        assert end.value.code == 0
        out = capsys.readouterr().out
        assert f"usage: malfl {argv.split()[0]}" in out
        assert told in out


def test_help_on_a_plugin_needs_the_extra(monkeypatch, capsys):
    monkeypatch.setattr("malfl_algos.cli.plugins.find_spec", lambda name: None)
    assert main(["learn", "fake", "--help"]) == 2
    assert 'docstring_parser: pip install "malfl-env[algos]"' in capsys.readouterr().err


def test_clashing_names_are_picked_by_distribution(tmp_path, monkeypatch):
    install(tmp_path / "plugins", monkeypatch, name="Other_Fakes")
    argv = ["reproduce", *SMALL, "--output-dir", "out", "--jobs", "1"]
    assert main(argv) == 2
    argv[argv.index("fake")] = "fakes:fake"
    argv[argv.index("counting")] = "other-fakes:counting"
    assert main(argv) == 0
    assert Path("out/homogeneous/seed_0/counting/rewards.npz").exists()
    used = json.loads(Path("out/run.json").read_text())["plugins"]
    assert [plugin["distribution"] for plugin in used] == ["fakes", "Other_Fakes"]


def test_a_missing_extra_names_the_command_that_installs_it(monkeypatch, capsys):
    monkeypatch.setattr(
        "malfl_algos.cli.main.find_spec", lambda name: None if name == "numba" else object()
    )
    assert main(["reproduce", *SMALL]) == 2
    assert capsys.readouterr().err == (
        'malfl: malfl reproduce needs numba: pip install "malfl-env[algos]"\n'
    )
    assert _files() == set()


@pytest.mark.slow
def test_interrupted_by_a_person(tmp_path):
    """Ctrl-C reaches the workers, too; together they print only one line."""
    (tmp_path / "slow_plugin.py").write_text(
        "import time\nfrom dataclasses import dataclass\n"
        "from fake_plugins import CountingObserver\n"
        "@dataclass(frozen=True)\nclass Slow(CountingObserver):\n"
        "    def recover(self, trace, **given):\n        time.sleep(60)\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        slow = {"malfl.observers": {"slow": "slow_plugin:Slow"}}
        install(tmp_path, patch, slow, name="others")
        paths = os.pathsep.join(
            [str(tmp_path), str(REPOSITORY / "tests" / "support"), *filter(None, sys.path)]
        )
    argv = [*SMALL, "--jobs", "2", "--output-dir", "out"]
    argv[argv.index("counting")] = "slow"
    process = subprocess.Popen(
        [sys.executable, REPOSITORY / "scripts" / "reproduce.py", *argv],
        env={**os.environ, "PYTHONPATH": paths},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while len(list(Path("out").rglob(".slow.partial"))) < 2 and process.poll() is None:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert err.splitlines()[-1] == ("malfl: interrupted; run the same command again to continue")
    assert process.returncode == 130
    assert "Traceback" not in err
    assert len(list(Path("out").rglob("trace.npz"))) == 2
