"""The benchmark runs, says what it needs, and compares like with like. No seconds are asserted."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from malfl_algos.sampling import sample_stage

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark.py"


def _run(*arguments: str, without: str | None = None) -> subprocess.CompletedProcess[str]:
    """The script in a process of its own; if asked for, as if a module were not installed."""
    argv = [str(SCRIPT)]
    if without is not None:
        argv = [
            "-c",
            f"import runpy, sys; sys.modules[{without!r}] = None; "
            f"sys.path.insert(0, {str(SCRIPT.parent)!r}); "
            f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')",
        ]
    return subprocess.run(
        [sys.executable, *argv, *arguments], capture_output=True, text=True, check=False
    )


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = SCRIPT.with_name("benchmark_lines.py")
    spec = importlib.util.spec_from_file_location("benchmark_lines", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "benchmark_lines", module)
    spec.loader.exec_module(module)
    return module


def _measured(tmp_path: Path, line: str) -> dict[str, dict]:
    """Rows of one line, after a look at the report around them."""
    file = tmp_path / "speed.json"
    done = _run("--fast", "--lines", line, "--repeats", "3", "--json", str(file))
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    assert set(report) == {"command", "date", "fast", "machine", "lines"}
    assert report["fast"] is True
    assert {"cpu", "processors", "python", "packages", "load_before", "load_after"} <= set(
        report["machine"]
    )
    for row in report["lines"]:
        assert f"| {row['line']} |" in done.stdout
        for part in ("ours", "baseline", "ratio"):
            low, high = row[part]["quartiles"]
            assert 0 < low <= row[part]["median"] <= high
            assert len(row[part]["values"]) == row["repeats"] == 3
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


def test_recovery(tmp_path):
    (row,) = _measured(tmp_path, "recovery").values()
    for agent in ("agent_0", "agent_1"):
        exact, adam = (
            row["notes"][f"root mean square residual of (12), {agent}, {method}"]
            for method in ("exact", "Adam")
        )
        assert 0 <= exact < adam


@pytest.mark.parametrize(
    ("module", "extra", "line"), [("mpe2", "bench", "step"), ("numba", "algos", "td")]
)
def test_a_missing_extra_is_named_before_anything_is_measured(tmp_path, module, extra, line):
    file = tmp_path / "speed.json"
    done = _run("--fast", "--lines", "recovery", line, "--json", str(file), without=module)
    assert done.returncode == 2
    assert f'needs {module}: pip install ".[{extra}]"' in done.stderr
    assert done.stdout == ""
    assert not file.exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--lines", "tb"], "invalid choice: 'tb'"),
        (["--repeats", "0"], "must be a whole number >= 1, got '0'"),
        (["--json", "no/such/folder/x.json"], "--json must name a file in a folder that exists"),
    ],
)
def test_bad_input(arguments, complaint):
    done = _run(*arguments)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert done.stdout == ""


def test_the_plain_loop_plays_and_learns_what_the_compiled_stage_does(paper_game, lines):
    game = paper_game("heterogeneous")
    rng = np.random.default_rng(5)
    policies = [rng.dirichlet(np.full(5, 4.0), size=game.n_states) for _ in range(2)]
    draw = lines.choose_with(rng)
    q, counts = lines.plain_stage(game, policies, draw, episodes=30, episode_length=1000)
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
