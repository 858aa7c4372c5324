"""Sweeps by command: on this machine, interrupted, damaged, with workers that die."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import sys
from pathlib import Path
from statistics import fmean

import pytest
from scipy import stats
from sweep_cases import (
    GRID,
    call,
    flaky,
    install_cases,
    interrupted,
    tables,
    without_flaky_options,
    write_sweep,
)

from malfl_algos.cli.main import main
from malfl_algos.experiments.config import ExperimentConfig, PluginConfig
from malfl_algos.experiments.engine import reproduce
from malfl_algos.experiments.games import GameConfig


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_cases(tmp_path, monkeypatch)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture(scope="module")
def twelve_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of twelve runs, run one after another in this process; tests must not change it."""
    folder = tmp_path_factory.mktemp("serial")
    file = write_sweep(folder / "sweep.yaml")
    with pytest.MonkeyPatch.context() as patch:
        install_cases(folder, patch)
        argv = ["sweep", str(file), "--output-dir", str(folder / "serial"), "--jobs", "1"]
        assert main(argv) == 0
    return folder


@pytest.fixture
def serial(twelve_runs: Path, tmp_path: Path) -> Path:
    """The sweep of twelve runs, in the present folder."""
    shutil.copytree(twelve_runs / "serial", "serial")
    shutil.copy(twelve_runs / "sweep.yaml", tmp_path)
    return Path("serial")


def _argv(tmp_path: Path) -> list[str]:
    return ["sweep", str(tmp_path / "sweep.yaml")]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_one_row_per_run_observer_and_agent_with_the_keys_of_the_grid(serial: Path) -> None:
    rows = _rows(serial / "table.csv")
    places = [
        (r["learner.options.scale"], r["temperature"], r["family"], r["seed"], r["observer"])
        for r in rows
    ]
    assert places == [
        (scale, temperature, "homogeneous", seed, observer)
        for scale in ("1.0", "2.0")
        for temperature in ("1.0", "3.0")
        for seed in ("0", "1", "2")
        for observer in ("counting", "flaky")
        for _ in range(2)
    ]
    assert [row["agent"] for row in rows[:2]] == ["agent_0", "agent_1"]
    assert len({row["run"] for row in rows}) == 12
    assert {path.stem for path in (serial / "runs").iterdir()} == {row["run"] for row in rows}


def test_a_run_is_what_reproduce_makes_of_it(serial: Path) -> None:
    config = ExperimentConfig(
        game=GameConfig(size=2),
        iterations=2,
        episodes=1,
        episode_length=5,
        temperature=3.0,
        seeds=(1,),
        reward_families=("homogeneous",),
        learner=PluginConfig("fake", "fake", {"scale": 2.0}),
        observers=(PluginConfig("counting", "counting"),),
    )
    summary = reproduce(config, "alone", jobs=1, log=lambda line: None)
    own = [
        row
        for row in _rows(serial / "table.csv")
        if (row["learner.options.scale"], row["temperature"], row["seed"], row["observer"])
        == ("2.0", "3.0", "1", "counting")
    ]
    for row, expected in zip(own, summary["results"], strict=True):
        for measure in ("pearson", "spearman", "starc_averaged", "regret"):
            assert float(row[measure]) == expected[measure]


def test_the_summary_is_of_the_table(serial: Path) -> None:
    table, summary = _rows(serial / "table.csv"), _rows(serial / "summary.csv")
    one = summary[0]
    assert (one["observer"], one["measure"], one["n_seeds"]) == ("counting", "pearson", "3")
    by_seed = [
        fmean(float(r["pearson"]) for r in table[:12] if r["seed"] == s and r["observer"] == o)
        for s in ("0", "1", "2")
        for o in ("counting",)
    ]
    assert float(one["mean"]) == pytest.approx(fmean(by_seed), rel=1e-12)
    half = float(stats.t.ppf(0.975, len(by_seed) - 1) * stats.sem(by_seed))
    ends = [fmean(by_seed) - half, fmean(by_seed) + half]
    assert [float(one["low"]), float(one["high"])] == pytest.approx(ends)
    assert len(summary) == 4 * 2 * 11  # points x observers x measures


@pytest.mark.slow
def test_the_same_tables_with_two_workers(serial: Path, tmp_path: Path) -> None:
    done = call(tmp_path / "sweep.yaml", "--output-dir", "two", "--jobs", 2, folder=Path.cwd())
    assert done.returncode == 0, done.stderr
    assert tables(Path("two")) == tables(serial)
    for figure in (serial / "figures").iterdir():
        assert Path("two/figures", figure.name).read_bytes() == figure.read_bytes()


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_costs_a_retry_not_the_sweep(
    serial: Path, tmp_path: Path
) -> None:
    file = write_sweep(tmp_path / "kill.yaml", observers=flaky(on_seed=1, how="kill"))
    done = call(file, "--output-dir", "killed", "--jobs", 2, folder=Path.cwd())
    assert done.returncode == 0, done.stderr
    lost = r"a worker was lost, \d+ item\(s\) will be done again: TerminatedWorkerError"
    assert re.search(lost, done.stderr), done.stderr
    assert without_flaky_options(Path("killed")) == without_flaky_options(serial)


@pytest.mark.slow
def test_a_run_that_always_ends_its_worker_is_recorded_and_the_others_are_done(
    tmp_path: Path,
) -> None:
    grid = {**GRID, "learner.options.scale": [1.0]}
    file = write_sweep(
        tmp_path / "kill.yaml", grid, observers=flaky(on_seed=1, how="kill", once=False)
    )
    done = call(file, "--output-dir", "killed", "--jobs", 2, folder=Path.cwd())
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        "malfl: learner.options.scale 1.0, temperature 3.0, family homogeneous, seed 1: it ended "
        "its worker process, 2 time(s) while alone: TerminatedWorkerError"
    )
    rows = _rows(Path("killed/table.csv"))
    assert len({row["run"] for row in rows}) == 5
    assert not [r for r in rows if (r["temperature"], r["seed"]) == ("3.0", "1")]


def test_a_run_that_fails_once_is_done_again(
    serial: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_sweep(tmp_path / "fail.yaml", observers=flaky(on_seed=1))
    assert main(["sweep", str(file), "--output-dir", "failed", "--jobs", "1"]) == 0
    assert "failed, will run again: learner.options.scale 1.0, temperature 3.0, family " in (
        capsys.readouterr().err
    )
    assert without_flaky_options(Path("failed")) == without_flaky_options(serial)


def test_what_fails_for_good_is_recorded_with_its_traceback_and_tried_when_called_again(
    serial: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_sweep(tmp_path / "fail.yaml", observers=flaky(on_seed=1))
    argv = ["sweep", str(file), "--output-dir", "failed", "--jobs", "1", "--retries", "0"]
    assert main(argv) == 1
    (last,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("malfl"))
    path = Path(re.search(r"\(see (.*)\)$", last)[1])  # type: ignore[index]
    assert "temperature 3.0, family homogeneous, seed 1: RuntimeError: the disk is on fire" in last
    stored = json.loads(path.read_text())
    assert 'raise RuntimeError("the disk is on fire")' in stored["faults"][0]
    assert [row["observer"] for row in stored["rows"]] == ["counting"] * 2
    assert len(_rows(Path("failed/table.csv"))) == 46
    assert main(argv) == 0
    assert "1 of 12 runs to do" in capsys.readouterr().err
    assert without_flaky_options(Path("failed")) == without_flaky_options(serial)


@pytest.mark.slow
def test_an_interrupted_sweep_resumes(serial: Path, tmp_path: Path) -> None:
    argv = [tmp_path / "sweep.yaml", "--output-dir", "cut", "--jobs", 2]
    status, told = interrupted(*argv, folder=Path(), output=Path("cut"))
    assert status == 130
    again = "malfl: interrupted; run the same command again to continue"
    assert told.splitlines()[-1] == again
    kept = {path: path.stat().st_mtime_ns for path in Path("cut/runs").glob("*.json")}
    assert main([*_argv(tmp_path), "--output-dir", "cut", "--jobs", "1"]) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert tables(Path("cut")) == tables(serial)


def test_missing_and_damaged_runs_are_made_again_and_the_others_kept(
    serial: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = tables(serial)
    gone, flipped, cut, *kept = sorted((serial / "runs").iterdir())
    before = {path: path.stat().st_mtime_ns for path in kept}
    gone.unlink()
    flipped.write_bytes(flipped.read_bytes().replace(b'"agent_0"', b'"agent_1"', 1))
    cut.write_bytes(cut.read_bytes()[:-9])
    (serial / "table.csv").unlink()
    assert main([*_argv(tmp_path), "--output-dir", "serial", "--jobs", "1"]) == 0
    told = capsys.readouterr().err
    assert f"{cut}: it cannot be read: " in told
    assert f"{flipped}: it is damaged, or was edited: its checksum does not fit" in told
    assert "3 of 12 runs to do" in told
    assert tables(serial) == expected
    assert {path: path.stat().st_mtime_ns for path in kept} == before


def test_a_sweep_may_grow_but_not_become_another(
    serial: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [*_argv(tmp_path), "--output-dir", "serial", "--jobs", "1"]
    write_sweep(tmp_path / "sweep.yaml", {**GRID, "seeds": [3, 0, 1, 2]})
    assert main(argv) == 0
    assert "4 of 16 runs to do" in capsys.readouterr().err
    write_sweep(tmp_path / "sweep.yaml", {**GRID, "seeds": [0, 1, 2]})
    before = tables(serial)
    assert main(argv) == 2
    assert "serial holds another sweep: 4 of its 16 runs are not in this sweep" in (
        capsys.readouterr().err
    )
    assert tables(serial) == before


@pytest.mark.parametrize(
    ("grid", "argv", "complaint"),
    [
        ({}, "", "grid: it is empty"),
        ({"temperature": []}, "", "grid: temperature must be a list of at least one value"),
        ({"temperature": 3.0}, "", "grid: temperature must be a list of at least one value"),
        ({"temprature": [1.0]}, "", "grid: unknown key 'temprature', did you mean 'temperature'?"),
        ({"game.slp": [0.1]}, "", "grid: unknown key 'game.slp', did you mean 'game.slip'?"),
        (
            {"learner.options.scal": [1.0]},
            "",
            "grid: unknown key 'learner.options.scal', did you mean 'learner.options.scale'?",
        ),
        ({"observers.countin.options.shift": [1.0]}, "", "did you mean 'observers.counting."),
        ({"trend": [True]}, "", "trend: a sweep computes no trend"),
        ({"temperature": [1.0, -1.0]}, "", "grid point temperature: -1.0: temperature must be > 0"),
        ({"learner.options.scale": [-1.0]}, "", "grid point .*: scale must be > 0, got -1.0"),
        ({"temperature": [1, 1.0]}, "", "duplicate run: temperature 1.0"),
        ({"seeds": [1, 1]}, "", "seeds must be distinct"),
        (
            {"learner": ["fake", {"name": "fake", "options": {"scale": 2.0}}]},
            "",
            "two different learners in the grid have the same label",
        ),
        (
            GRID,
            "--max-runs 11",
            r"the grid has 2 \(learner.options.scale\) x 2 \(temperature\) x 1 "
            r"\(reward_families\) x 3 \(seeds\) = 12 runs, more than --max-runs 11",
        ),
        ({"seeds": list(range(1001))}, "", "= 1001 runs, more than --max-runs 1000"),
        (GRID, "--x seeds", "--x: unknown key 'seeds', did you mean 'seed'?"),
        (GRID, "--measure pearsn", "--measure: unknown 'pearsn', did you mean 'pearson'?"),
        (GRID, "--x seed --hue seed", "--x and --hue must be different keys"),
        (GRID, "--address 127.0.0.1:1", "--address needs a cluster"),
        (GRID, "--jobs 0", "jobs must be a whole number >= 1, got 0"),
        (GRID, "--retries -1", "retries must be a whole number >= 0, got -1"),
        (GRID, "--backend slurm", "--backend: invalid choice: 'slurm'"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    grid: dict[str, object],
    argv: str,
    complaint: str,
) -> None:
    file = write_sweep(tmp_path / "sweep.yaml", grid)
    assert main(["sweep", str(file), "--output-dir", "out", *argv.split()]) == 2
    out, err = capsys.readouterr()
    assert re.fullmatch(f"malfl: .*{complaint}.*\n", err)
    assert out == ""
    assert list(Path().iterdir()) == []


def test_a_file_with_other_parts_is_rejected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sweep.yaml").write_text("{bse: {}, grid: {temperature: [1.0]}}")
    assert main([*_argv(tmp_path), "--output-dir", "out"]) == 2
    assert "sweep: unknown key 'bse', did you mean 'base'? allowed: base, grid" in (
        capsys.readouterr().err
    )
    Path("other").mkdir()
    Path("other/notes.txt").write_text("mine")
    write_sweep(tmp_path / "sweep.yaml")
    assert main([*_argv(tmp_path), "--output-dir", "other"]) == 2
    assert "other is not empty and not the folder of a sweep" in capsys.readouterr().err


def test_any_two_keys_have_a_figure(serial: Path, tmp_path: Path) -> None:
    before = tables(serial)
    argv = [*_argv(tmp_path), "--output-dir", "serial", "--x", "observer", "--hue", "seed"]
    assert main([*argv, "--measure", "regret"]) == 0
    names = {path.name for path in (serial / "figures").iterdir()}
    assert names == {
        "pearson_by_learner.options.scale_temperature.png",
        "regret_by_observer_seed.png",
    }
    assert tables(serial) == before


@pytest.mark.parametrize(("name", "module"), [("dask", "distributed"), ("ray", "ray")])
def test_a_cluster_that_is_not_installed_is_named_with_its_command(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    module: str,
) -> None:
    write_sweep(tmp_path / "sweep.yaml")
    monkeypatch.setitem(sys.modules, module, None)  # as where it is not installed
    assert main([*_argv(tmp_path), "--output-dir", "out", "--backend", name]) == 2
    told = f'malfl: --backend {name} needs {name}: pip install "malfl-env[{name}]"\n'
    assert capsys.readouterr().err == told


def test_a_sweep_is_verified(serial: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "serial"]) == 0
    assert capsys.readouterr().out == "serial: no errors found\n"
    run = min(serial.glob("runs/*.json"))
    damages = {
        run: (b"", f"runs/{run.name}: it cannot be read"),
        serial / "table.csv": (b"x", "table.csv: damaged: its checksum is not the one in sweep"),
        serial / "sweep.json": (b"{}", "sweep.json: it is not the record of a malfl sweep; 12"),
    }
    for path, (content, words) in damages.items():
        before = path.read_bytes()
        path.write_bytes(content)
        assert main(["verify", "serial"]) == 1
        assert words in capsys.readouterr().out
        path.unlink()
        assert main(["verify", "serial"]) == 1
        assert "missing" in capsys.readouterr().out
        path.write_bytes(before)
    (serial / "runs" / ".x.partial").mkdir()
    assert main(["verify", "serial"]) == 1
    assert "left unfinished" in capsys.readouterr().out


@pytest.mark.parametrize("how", ["damaged", "lost", "a folder", "a pipe"])
def test_a_lost_record_does_not_strand_the_finished_runs(
    serial: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    before, record = tables(serial), serial / "sweep.json"
    kept = {path: path.stat().st_mtime_ns for path in serial.glob("runs/*.json")}
    content = record.read_bytes()
    record.unlink()
    if how == "damaged":
        record.write_bytes(content + b"x")
    elif how == "a folder":
        record.mkdir()
    elif how == "a pipe":
        os.mkfifo(record)
    assert main([*_argv(tmp_path), "--output-dir", "serial", "--jobs", "1"]) == 0
    err = capsys.readouterr().err
    assert "it is made again from the files of the runs" in err
    assert "all 12 runs are there" in err
    assert record.read_bytes() == content
    assert tables(serial) == before
    assert {path: path.stat().st_mtime_ns for path in serial.glob("runs/*.json")} == kept


def test_another_sweep_replaces_one_only_if_asked_and_leaves_nothing_of_it(
    serial: Path, tmp_path: Path
) -> None:
    (serial / "notes.txt").write_text("mine")
    write_sweep(tmp_path / "sweep.yaml", {"temperature": [2.0], "seeds": [0]})
    argv = [*_argv(tmp_path), "--output-dir", "serial", "--jobs", "1"]
    assert main(argv) == 2
    assert len(list(serial.glob("runs/*.json"))) == 12
    assert main([*argv, "--overwrite"]) == 0
    assert len(list(serial.glob("runs/*.json"))) == 1
    assert main(["sweep", *argv[1:2], "--output-dir", "fresh", "--jobs", "1"]) == 0
    assert {p.relative_to("fresh") for p in Path("fresh").rglob("*")} == {
        p.relative_to(serial) for p in serial.rglob("*") if p.name != "notes.txt"
    }
    assert (serial / "notes.txt").read_text() == "mine"
    assert main(["verify", "serial"]) == 0
