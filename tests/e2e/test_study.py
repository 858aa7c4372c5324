"""The study runs and resumes, and its tables agree with its cells."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import study
from study import Task, missing_tasks, run_task
from study_figures import data_efficiency_figure, write_study_figures
from study_plan import (
    DATA,
    DEFAULT_LEARNERS,
    GAMES,
    OBSERVERS,
    Cell,
    cell_config,
    cells,
    left_out,
)
from study_tables import summarise
from study_targets import TARGETS, Bounds, check_targets

from malfl_algos.experiments.cell import learn, learner_rng
from malfl_algos.learners.ma_spi import MaSpi
from malfl_algos.plugins import load_observer
from malfl_algos.report.style import look
from malfl_algos.scores.prediction import estimated_policy, predicted_log_policies
from malfl_env import InputError, grid_world_v0, markov_game

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "scripts" / "study.py"
PLAN = ("--games", "heterogeneous", "--learners", "td", "--data", "full", "1/10", "--seeds", "3")
SIZE = ("--episodes", "20", "--jobs", "1")
STUDENT_T_ONE_DEGREE = 12.706204736
"""0.975 quantile."""


def _run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), "--output-dir", str(root), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def _cells(root: Path) -> dict[str, dict[str, Any]]:
    return {
        str(path.relative_to(root)): json.loads(path.read_text())
        for path in sorted(root.glob("cells/*/*/*/*.json"))
    }


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def _cell(game: str, *, learner: str = "td", data: str = "full", seed: int = 0) -> Cell:
    return Cell(game, learner, data, seed, full_episodes=3, among_first=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds, two amounts of data, two observers."""
    root = tmp_path_factory.mktemp("study")
    done = _run(root, *PLAN, "4", *SIZE, "--observers", "log-policy", "ma-lfl-bellman")
    assert done.returncode == 0, done.stderr
    assert "4 of 4: heterogeneous, td learners, data 1/10, seed 4: " in done.stdout
    assert "4 cells: " in done.stdout
    assert " hours of work, " in done.stdout
    return root


def test_a_cell_holds_a_row_per_observer_and_agent(finished):
    made = _cells(finished)
    assert list(made) == [
        f"cells/heterogeneous/td/{data}/seed_{seed}.json"
        for data in ("1-10", "full")
        for seed in (3, 4)
    ]
    for content in made.values():
        assert content["refused"] == {}
        assert content["cell"]["episodes"] == {"full": 20, "1/10": 2}[content["cell"]["data"]]
        assert content["seconds"] > content["learning_seconds"] > 0
        names = [(row["observer"], row["agent"]) for row in content["rows"]]
        both = ("agent_0", "agent_1")
        assert names == [(o, agent) for o in ("log-policy", "ma-lfl-bellman") for agent in both]
        for row in content["rows"]:
            assert row["seconds"] > 0
            assert -1 <= row["pearson"] <= 1
            assert row["regret"] >= 0
            if row["observer"] == "log-policy":
                assert row["coverage_2sd"] is None
                assert row["reasons"]["coverage_2sd"] == "no posterior covariance is given"
                continue
            assert 0 <= row["coverage_1sd"] <= row["coverage_2sd"] <= row["coverage_3sd"] <= 1
            assert row["sd_ratio"] > 0
            assert row["settings"]["prior_variance"] > 0
            assert row["n_unknowns"] == 81


def test_the_tables_agree_with_the_cells(finished):
    made = _cells(finished)
    rows = _table(finished / "rows.csv")
    assert len(rows) == sum(len(content["rows"]) for content in made.values()) == 16
    for row in _table(finished / "summary.csv"):
        by_seed = [
            [
                own[row["measure"]]
                for own in made[f"cells/heterogeneous/td/{folder}/seed_{seed}.json"]["rows"]
                if own["observer"] == row["observer"]
            ]
            for folder in [row["data"].replace("/", "-")]
            for seed in (3, 4)
        ]
        if None in by_seed[0]:
            assert (row["mean"], row["min"], row["n_seeds"]) == ("", "", "0")
            continue
        one, other = map(fmean, by_seed)
        half = STUDENT_T_ONE_DEGREE * abs(one - other) / 2  # sd / sqrt(2) of two values
        measured = [float(row[name]) for name in ("mean", "low", "high", "min", "max")]
        mean = (one + other) / 2
        values = [value for own in by_seed for value in own]
        expected = [mean, mean - half, mean + half, min(values), max(values)]
        np.testing.assert_allclose(measured, expected, rtol=1e-9)
        assert (row["n_seeds"], row["n_values"]) == ("2", "4")
    text = (finished / "study.md").read_text()
    assert (
        "Episodes per stage, the same for learner and observer: data full: 20, data 1/10: 2."
        in text
    )
    shown = fmean(
        row["pearson"]
        for name, content in made.items()
        for row in content["rows"]
        if "/full/" in name and row["observer"] == "ma-lfl-bellman"
    )
    assert f"| heterogeneous | ma-lfl-bellman | {shown:.3f} [" in text


def test_the_figures_are_drawn_of_the_present_cells(finished):
    drawn = {path.name: path.read_bytes() for path in (finished / "figures").iterdir()}
    assert set(drawn) == {"data_efficiency.png", "calibration.png"}
    assert all(content.startswith(b"\x89PNG") for content in drawn.values())


def test_it_resumes_and_adds_observers(finished, tmp_path):
    root = tmp_path / "study"
    root.mkdir()
    for name, content in _cells(finished).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(json.dumps(content))
    before = _cells(root)
    times = {name: (root / name).stat().st_mtime_ns for name in before}
    done = _run(root, *PLAN, "4", *SIZE, "--observers", "log-policy", "ma-lfl-bellman")
    assert done.returncode == 0, done.stderr
    assert "0 cells to run" in done.stdout
    assert {name: (root / name).stat().st_mtime_ns for name in before} == times
    gone = "cells/heterogeneous/td/full/seed_3.json"
    (root / gone).unlink()
    done = _run(root, *PLAN, *SIZE, "--observers", "log-policy", "ma-lfl-bellman", "ma-lfl-state")
    assert done.returncode == 0, done.stderr
    assert "2 cells to run" in done.stdout
    after = _cells(root)
    assert [row["observer"] for row in after[gone]["rows"][::2]] == [
        "log-policy",
        "ma-lfl-bellman",
        "ma-lfl-state",
    ]
    for new, old in zip(after[gone]["rows"], before[gone]["rows"], strict=False):
        assert {**new, "seconds": 0} == {**old, "seconds": 0}
    extended = "cells/heterogeneous/td/1-10/seed_3.json"
    assert after[extended]["rows"][:4] == before[extended]["rows"]
    assert len(after[extended]["rows"]) == 6
    assert after[extended]["seconds"] > before[extended]["seconds"]
    untouched = "cells/heterogeneous/td/full/seed_4.json"
    assert (root / untouched).stat().st_mtime_ns == times[untouched]


def test_bad_input(finished, tmp_path):
    for arguments, complaint in [
        (("--games", "chess"), "invalid choice: 'chess'"),
        (("--episodes", "0"), "must be a whole number >= 1, got '0'"),
        (("--seeds", "-1"), "must be a whole number >= 0, got '-1'"),
        (("--tables-only",), f"{tmp_path} holds no cell of a study"),
    ]:
        done = _run(tmp_path, *arguments)
        assert done.returncode == 2
        assert complaint in done.stderr
        assert "Traceback" not in done.stderr
        assert not list(tmp_path.iterdir())
    done = _run(finished, *PLAN, "--episodes", "30")
    assert done.returncode == 2
    words = "was made with 20 episodes per stage and held_out False, but 30 and False"
    assert words in done.stderr


def test_a_damaged_cell_is_named(tmp_path):
    path = _cell("heterogeneous").path(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text('{"cell": ')
    with pytest.raises(ValueError, match=r"seed_0\.json: .*delete it and run again"):
        missing_tasks([_cell("heterogeneous")], ["log-policy"], tmp_path)


def test_the_plan_takes_the_papers_games_first_and_few_seeds_of_large_ones():
    plan = cells(list(GAMES), DEFAULT_LEARNERS, list(DATA), range(100, 120), full_episodes=3000)
    assert [(c.game, c.data, c.seed) for c in plan[:3]] == [
        ("homogeneous", "full", 100),
        ("heterogeneous", "full", 100),
        ("homogeneous", "full", 101),
    ]
    main = 2 * 20 * (3 + 4)  # td: three amounts of data; exact: and the policies themselves
    assert {c.game for c in plan[:main]} == {"homogeneous", "heterogeneous"}
    assert [c.learner for c in plan[:main]] == ["td"] * 120 + ["exact"] * 160
    assert {c.game: c.seed for c in plan[main:]} == {
        "both-approach": 119,
        "random-rewards": 119,
        "sparse-goal": 119,
        "slip": 119,
        "4x4": 104,
        "three-agents": 104,
    }
    assert {(c.data, c.episodes) for c in plan} == {
        ("full", 3000),
        ("1/10", 300),
        ("1/100", 30),
        ("policies", 30),
    }


def test_what_is_left_out():
    assert left_out(_cell("slip"), "ma-lfl-replay") is None
    assert left_out(_cell("slip", learner="exact"), "ma-lfl-replay") is not None
    assert left_out(_cell("4x4"), "ma-lfl-replay") is not None
    assert left_out(_cell("4x4", data="1/10"), "ma-lfl-replay") is None
    assert left_out(_cell("homogeneous"), "ma-lfl-replay-search") is None
    assert left_out(_cell("slip"), "ma-lfl-replay-search") is not None
    assert left_out(_cell("4x4", learner="exact"), "ma-lfl-bellman") is None
    assert left_out(_cell("4x4"), "ma-lfl") is None
    assert left_out(_cell("three-agents"), "ma-lfl") is not None
    assert left_out(_cell("three-agents"), "ma-lfl-own-action") is None


def test_the_learner_is_that_of_the_pipeline():
    cell = _cell("slip", seed=7)
    config = cell_config(cell, ["log-policy"])
    trace = learn(config, family="slip", seed=7, keep_transitions=False).trace
    env = grid_world_v0.parallel_env(rewards=["approach", "avoid"], slip=0.1)
    learner = MaSpi(discount=0.9, temperature=3.0, episodes=3, episode_length=1000)
    stages = learner.learn(env, n_stages=10, rng=learner_rng("slip", 7))
    for stage, own in zip(stages, trace.stages, strict=True):
        np.testing.assert_array_equal(stage.observed.joint_counts, own.joint_counts)


def test_rewards_of_the_games():
    goal = cell_config(_cell("sparse-goal"), ["log-policy"]).markov_game("sparse-goal")
    bottom_right = grid_world_v0.parallel_env(
        rewards=[lambda positions, agent: np.all(positions[:, agent] == 2, axis=-1).astype(float)]
        * 2
    )
    for agent in range(2):
        np.testing.assert_array_equal(goal.reward(agent), markov_game(bottom_right).reward(agent))
    tables = [
        cell_config(_cell("random-rewards", seed=seed), ["log-policy"])
        .markov_game("random-rewards")
        .reward(agent)
        for seed in (0, 1)
        for agent in range(2)
    ]
    assert len({table.tobytes() for table in tables}) == 4
    pooled = np.concatenate(tables)
    assert abs(pooled.mean()) < 4 / np.sqrt(pooled.size)
    assert abs(pooled.std() - 1) < 4 / np.sqrt(2 * pooled.size)


def test_known_policies_determine_the_reward(tmp_path):
    cell = Cell("random-rewards", "exact", "policies", 5, full_episodes=100, among_first=True)
    outcome = run_task(Task(cell, ("ma-lfl-bellman",), tmp_path))
    assert outcome.fault is None
    rows = json.loads(cell.path(tmp_path).read_text())["rows"]
    assert min(row["pearson"] for row in rows) > 0.9999


def test_rejections_and_failures(tmp_path, monkeypatch):
    """A rejection is recorded and a failure is reported; the other observers still run."""
    true_observe = study.observe

    faults: Mapping[str, Exception] = {
        "ma-lfl": InputError("too large\na table"),
        "lfl": RuntimeError("a bug"),
    }

    def faulty(learned, observer, **options):
        if observer.label in faults:
            raise faults[observer.label]
        return true_observe(learned, observer, **options)

    monkeypatch.setattr(study, "observe", faulty)
    cell, observers = _cell("heterogeneous"), ("ma-lfl", "lfl", "log-policy")
    outcome = run_task(Task(cell, observers, tmp_path))
    assert outcome.fault is not None
    assert "RuntimeError: a bug" in outcome.fault
    content = json.loads(cell.path(tmp_path).read_text())
    assert content["refused"] == {"ma-lfl": "too large a table"}
    assert {row["observer"] for row in content["rows"]} == {"log-policy"}
    (task,) = missing_tasks([cell], observers, tmp_path)
    assert task.observers == ("lfl",)


def test_targets_are_met_where_the_numbers_lie_within():
    wanted = ("homogeneous", "td", "full", "ma-lfl-replay")
    seeds = {0: (0.9935, 0.9925), 1: (0.9931, 0.9941)}
    rows = [
        {
            **dict(zip(("game", "learner", "data", "observer"), wanted, strict=True)),
            "seed": seed,
            "agent": f"agent_{agent}",
            **dict.fromkeys(("spearman", "epic", "starc", "epic_averaged", "starc_averaged")),
            **dict.fromkeys(("coverage_1sd", "coverage_3sd", "sd_ratio")),
            "pearson": value,
            "coverage_2sd": 0.995,
            "regret": 0.01,
        }
        for seed, values in seeds.items()
        for agent, value in enumerate(values)
    ]
    table = check_targets(summarise(rows))
    assert len(table) == sum(len(target.games) for target in TARGETS)
    verdicts = {
        row["target"].partition(": ")[2]: (row["measured"], row["must_met"], row["aim_met"])
        for row in table
        if row["game"] == "homogeneous"
        and row["target"].startswith("ma-lfl-replay, td learners, data full")
    }
    assert verdicts == {
        "pearson mean": ("0.9933", "yes", "no"),
        "pearson min": ("0.9925", "yes", "yes"),
        "spearman mean": ("not run", "", ""),
        "coverage_2sd mean": ("0.9950", "no", ""),
        "regret mean": ("0.0100", "yes", "no"),
    }
    assert not Bounds(0.9, 0.99).holds(0.89)
    assert Bounds(0.9, 0.99).holds(0.99)
    assert Bounds(None, 0.02).holds(0.0)


def test_the_curves_show_means_over_seeds(tmp_path):
    values = np.array([[0.2, 0.9], [0.4, np.nan], [0.6, 0.7]])
    values.flags.writeable = False
    curves = {"a game": {"one": values}}
    figure = data_efficiency_figure(curves, [30, 300], {"one": look(0)}, n_seeds=3)
    (line,) = figure.axes[0].lines
    np.testing.assert_allclose(line.get_xydata(), [[30, 0.4], [300, 0.8]])
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["30", "300"]
    # equal factors in the distance to 1 are equally far apart
    heights = figure.axes[0].transData.transform([[30, 0.9], [30, 0.99], [30, 0.999]])[:, 1]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1])
    assert write_study_figures([], tmp_path, main_games=[], observers=list(OBSERVERS)) == []


def test_the_last_stage_is_predicted_from_the_stages_before_it(tmp_path):
    cell = Cell("heterogeneous", "td", "full", 3, 20, True, held_out=True)
    assert run_task(Task(cell, ("lfl",), tmp_path)).fault is None
    rows = json.loads(cell.path(tmp_path).read_text())["rows"]
    learned = learn(cell_config(cell, ["lfl"]))
    trace, game = learned.trace, learned.game.without_rewards()
    rewards = (
        load_observer("lfl")
        .recover(trace.first(trace.n_stages - 1), game=game, discount=0.9, temperature=3.0)
        .rewards
    )
    before, after = trace.stages[-2:]
    policies = [estimated_policy(before.action_counts(index)) for index in range(2)]
    recovered_game = game.with_rewards([rewards[agent] for agent in game.agents])
    logs = predicted_log_policies(recovered_game, policies, discount=0.9, temperature=3.0)
    for index, row in enumerate(rows):
        counts = after.action_counts(index)
        expected = (counts * logs[index]).sum() / counts.sum()
        assert row["predicted_log_likelihood"] == pytest.approx(expected)
        assert row["uniform_log_likelihood"] == pytest.approx(-np.log(5))
