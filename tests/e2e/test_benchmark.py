"""The benchmark runs, names missing packages, and compares equal tasks. No time is asserted."""

import json
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from recovery_cases import learn

from malfl_algos.ma_lfl.replay import ReplayedTd
from malfl_algos.observers.reading import stage_arrays
from malfl_algos.play.tabular import sample_stage

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark.py"


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The script in a separate process."""
    argv = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports one of the script's modules by name."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    return import_module


def _measured(tmp_path: Path, line: str, *, repeats: int = 3) -> dict[str, dict]:
    """Rows of one line, after a check of the report around them."""
    file = tmp_path / "speed.json"
    done = _run("--fast", "--lines", line, "--repeats", str(repeats), "--json", str(file))
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    assert set(report) == {"command", "date", "fast", "machine", "lines", "scaling"}
    assert report["scaling"] is None
    assert report["fast"] is True
    assert {"cpu", "processors", "python", "packages", "load_before", "load_after"} <= set(
        report["machine"]
    )
    for row in report["lines"]:
        assert f"| {row['line']} |" in done.stdout
        for part in ("ours", "baseline", "ratio"):
            low, high = row[part]["quartiles"]
            assert 0 < low <= row[part]["median"] <= high
            assert len(row[part]["values"]) == row["repeats"] == repeats
        pairs = zip(row["ours"]["values"], row["baseline"]["values"], strict=True)
        expected = [a / b if row["unit"] == "steps/s" else b / a for a, b in pairs]
        np.testing.assert_allclose(row["ratio"]["values"], expected)
    return {row["line"]: row for row in report["lines"]}


def test_td(tmp_path):
    rows = _measured(tmp_path, "td")
    assert {name: row["aim"] for name, row in rows.items()} == {"td": 300, "td, cheap draws": None}


def test_step(tmp_path):
    pytest.importorskip("mpe2", reason='needs mpe2: pip install ".[bench]"')
    rows = _measured(tmp_path, "step")
    assert {name: row["aim"] for name, row in rows.items()} == {
        "step, simple_spread": 20,
        "step, rps": None,
    }


def test_vector(tmp_path):
    pytest.importorskip("supersuit", reason='needs supersuit: pip install ".[bench]"')
    rows = _measured(tmp_path, "vector")
    assert len(rows) >= 2
    assert all("vector" in name for name in rows)


def test_import(tmp_path):
    pytest.importorskip("pyarrow")
    rows = _measured(tmp_path, "import", repeats=1)
    assert {name: row["notes"]["wanted, s"] for name, row in rows.items()} == {
        "import csv": 10,
        "import parquet": 3,
    }
    assert all(10 < row["notes"]["peak memory, MiB"] < 1024 for row in rows.values())


def test_recovery(tmp_path):
    (row,) = _measured(tmp_path, "recovery").values()
    for agent in ("agent_0", "agent_1"):
        exact, adam = (
            row["notes"][f"root mean square residual of (12), {agent}, {method}"]
            for method in ("exact", "Adam")
        )
        assert 0 <= exact < adam


def test_protocol(tmp_path):
    one, five = _measured(tmp_path, "protocol", repeats=1).values()
    assert (one["line"], one["aim"]) == ("protocol", 546)
    assert (five["line"], five["aim"]) == ("protocol, 5 seeds", 5 * 91 * 60 / 20)
    assert five["baseline"]["median"] == pytest.approx(5 * one["baseline"]["median"])


def test_what_people_wait_for(tmp_path):
    (row,) = _measured(tmp_path, "trend", repeats=1).values()
    shares = {name: value for name, value in row["notes"].items() if "share" in name}
    assert len(shares) > 4
    assert max(shares.values()) < 1
    assert shares["share of the recovery, verdict"] > 0.05
    (row,) = _measured(tmp_path, "archive", repeats=1).values()
    assert row["notes"]["MB at the usual level"] < row["notes"]["MB"]
    assert len(_measured(tmp_path, "start", repeats=1)) == 3


def test_conditioning(tmp_path):
    (row,) = _measured(tmp_path, "conditioning", repeats=1).values()
    notes = row["notes"]
    largest = {name.split(":")[0]: own for name, own in notes.items() if "largest" in name}
    assert largest["factorised"] < 2 < 1e3 < largest["factorised, first stages not corrected"]
    assert notes["factorised: iterations"] < notes["diagonal: iterations"]


def test_replay(tmp_path):
    rows = _measured(tmp_path, "replay")
    assert set(rows) == {"replay", "replay, searched"}
    for row in rows.values():
        assert row["unit"] == "s/million"
        assert row["notes"]["wanted, s/million"] == 0.3
    assert rows["replay, searched"]["notes"]["sizes tried"] > 1


def test_scaling(tmp_path):
    file, figure = tmp_path / "speed.json", tmp_path / "scaling.png"
    outputs = ("--json", str(file), "--figure", str(figure))
    done = _run("--fast", "--lines", "scaling", "--repeats", "1", *outputs)
    assert done.returncode == 0, done.stderr + done.stdout
    assert figure.read_bytes().startswith(b"\x89PNG")
    report = json.loads(file.read_text())
    assert report["lines"] == []
    small, large = report["scaling"]["games"]
    assert [game["n_states"] for game in (small, large)] == [16, 81]
    assert [game["n_joint_actions"] for game in (small, large)] == [25, 25]
    assert small["noise_and_prior"] == "searched"
    assert large["noise_and_prior"] == "of 2x2, 2 agents"
    for game in (small, large):
        assert f"| {game['game']} |" in done.stdout
        assert game["solver"] in ("dense", "iterative")
        assert min(min(game["pearson"], *game["solvers"]["pearson"])) > 0.99
        assert all(count > 0 for count in game["iterations"])
        assert game["peak_bytes"] > 2**20
        each = game["solvers"]["iterative"]["median"] / sum(game["iterations"])
        assert game["per_iteration"]["median"] == pytest.approx(each)
        for name in ("noise_variance", "prior_variance"):
            assert game[name] == pytest.approx(small[name])
            assert game[name] > 0
    assert set(report["scaling"]["fits"]) == {"all boards"}
    assert "(joint states x joint actions)^" in done.stdout


def test_the_fitted_exponent_is_that_of_a_power_law(module):
    sizes = [(81, 25), (256, 25), (1296, 25), (10000, 25)]
    games = [
        {
            "n_agents": 2,
            "n_states": states,
            "n_joint_actions": actions,
            "per_iteration": {"median": 3e-7 * (states * actions) ** 1.1},
        }
        for states, actions in sizes
    ]
    team = {"n_agents": 4, "n_states": 6561, "n_joint_actions": 625}
    without = [
        {**games[0], "per_iteration": None},
        {**team, "per_iteration": {"median": 9.0}},  # a series of its own
        {"fault": "too large"},
    ]
    found = module("benchmark_scaling_report").fits([*games[::-1], *without])
    assert {name: (fit["games"], fit["from"]) for name, fit in found.items()} == {
        "all boards": (4, 2025),
        "larger half": (2, 1296 * 25),
    }
    for fit in found.values():
        assert fit["exponent"] == pytest.approx(1.1)
        assert np.exp(fit["constant"]) == pytest.approx(3e-7)


def test_a_game_that_fails_is_a_row_that_says_so(module):
    scaling = module("benchmark_scaling")
    job = module("benchmark_scaling_run").Job(2, 2, n_stages=1)
    (row,) = scaling.grow([job, job], 1, searched_states=0)
    assert "at least 2 stages" in row["fault"]
    report = module("benchmark_scaling_report")
    shown = report.table({"games": [row], "fits": report.fits([row])})
    assert "TooFewStages: recovery needs at least 2 stages" in shown


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere getrusage tells it")
def test_peak_memory_is_of_the_process_alone():
    ballast = np.ones(50_000_000)
    program = "import benchmark_scaling_run; print(benchmark_scaling_run.peak_bytes())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=SCRIPT.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert 2**20 < int(done.stdout) < ballast.nbytes


@pytest.mark.parametrize(
    ("missing", "extra", "line"), [("mpe2", "bench", "step"), ("numba", "algos", "td")]
)
def test_a_missing_extra_is_named_before_anything_is_measured(
    module, monkeypatch, capsys, tmp_path, missing, extra, line
):
    benchmark, file = module("benchmark"), tmp_path / "speed.json"
    monkeypatch.setattr(benchmark, "find_spec", lambda name: None if name == missing else True)
    assert benchmark.main(["--lines", "recovery", line, "--json", str(file)]) == 2
    out, err = capsys.readouterr()
    assert f'needs {missing}: pip install ".[{extra}]"' in err
    assert out == ""
    assert not file.exists()


def test_networks_are_left_out_with_a_word_where_torch_is_missing(module, monkeypatch, capsys):
    benchmark = module("benchmark")
    monkeypatch.setattr(benchmark, "find_spec", lambda name: None if name == "torch" else True)
    assert benchmark._all_lines() == [name for name in benchmark.LINES if name != "networks"]
    assert 'left out: networks needs torch: pip install ".[torch]"' in capsys.readouterr().err
    monkeypatch.setattr(benchmark, "find_spec", lambda name: True)
    assert benchmark._all_lines() == list(benchmark.LINES)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--lines", "tb"], "invalid choice: 'tb'"),
        (["--repeats", "0"], "must be a whole number >= 1, got '0'"),
        (["--json", "no/such/folder/x.json"], "--json must name a file in a folder that exists"),
        (["--figure", "no/such/folder/x.png"], "--figure must name a file in a folder that exists"),
        (["--figure", "x.jpg"], "--figure must name a .png file, got 'x.jpg'"),
        (
            ["--lines", "td", "--figure", "x.png"],
            "--figure draws the line scaling: request this line",
        ),
        (["--largest", "7"], "invalid choice: 7"),
    ],
)
def test_bad_input(module, capsys, arguments, complaint):
    try:
        status = module("benchmark").main(arguments)
    except SystemExit as end:  # argparse
        status = end.code
    out, err = capsys.readouterr()
    assert status == 2
    assert complaint in err
    assert out == ""


def test_the_plain_loop_plays_and_learns_what_the_compiled_stage_does(paper_game, module):
    learning, lines = module("benchmark_learning"), module("benchmark_lines")
    game = paper_game("heterogeneous")
    rng = np.random.default_rng(5)
    policies = [rng.dirichlet(np.full(5, 4.0), size=game.n_states) for _ in range(2)]
    draw = learning.choose_with(rng)
    q, counts = learning.plain_stage(game, policies, draw, episodes=30, episode_length=1000)
    sample = sample_stage(
        game,
        [np.log(policy) for policy in policies],
        seed=0,
        episodes=30,
        episode_length=1000,
        discount=lines.DISCOUNT,
        temperature=lines.TEMPERATURE,
        step_size=lines.STEP_SIZE,
        keep_steps=False,
    )
    assert counts.sum() == sample.joint_counts.sum() == 30_000
    assert np.abs(counts - sample.joint_counts).sum() / 30_000 < 0.35  # 0.26: chance alone
    for index in range(2):
        own = [c.sum(axis=2 - index) for c in (counts, sample.joint_counts)]
        often = np.minimum(*own) > 100
        assert often.sum() > 50
        plain, compiled = q[index][often], sample.q[index][often]
        assert abs(plain.mean() - compiled.mean()) < 0.3
        assert np.corrcoef(plain, compiled)[0, 1] > 0.9


def test_the_plain_replay_computes_what_the_compiled_one_does(module):
    replay = module("benchmark_recovery")
    trace, game = learn(episodes=2, n_stages=2)
    (stage, _), rng = stage_arrays(trace), np.random.default_rng(3)
    policies = [rng.dirichlet(np.full(5, 4.0), size=game.n_states) for _ in range(2)]
    model = ReplayedTd("state", replay.DISCOUNT, replay.TEMPERATURE, replay.STEP_SIZE)
    for index in range(2):
        rows = model.stage_coefficients(stage, policies, index)
        plain = replay.plain_coefficients(stage, policies[index], index)
        np.testing.assert_allclose(rows, plain, rtol=1e-4, atol=1e-5)
        reward = game.reward(index)
        variance = model.stage_variance(stage, policies, index, reward, rows)
        noise = replay.plain_noise(stage, policies[index], index, reward)
        seen = variance > 0
        np.testing.assert_array_equal(seen, noise > 0)
        ratio = noise[seen] / variance[seen]  # 64 random signs on either side
        assert abs(np.log(ratio).mean()) < 0.1
        assert np.abs(np.log(ratio)).max() < 2
