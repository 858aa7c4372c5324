"""`malfl score` with the ground truth, with a trace, with both; and the same scores in a run."""

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import numpy as np
import pytest
from exact import exact_policies

from malfl_algos.cli.main import main
from malfl_algos.experiments.scoring import TRUTH_ALONE, scored_rows
from malfl_algos.ground_truth import GroundTruth
from malfl_algos.recovered import RecoveredRewards
from malfl_algos.scores import score_names
from malfl_algos.scores.inputs import Reference
from malfl_algos.storage.arrays import read_arrays, write_arrays
from malfl_algos.trace import LearningTrace, Stage
from malfl_env import grid_world_v0, markov_game

pytestmark = pytest.mark.usefixtures("fakes_in_an_empty_folder")
AGAINST_TRUTH = score_names("ground_truth", "dynamics", "posterior_covariance")
PREDICTIONS = score_names("trace", "dynamics")
CALIBRATION = [name for name in AGAINST_TRUTH if "sd" in name]


@pytest.fixture
def game():
    """The paper's game; exact learners in `trace.npz`, their ground truth in `truth.npz`."""
    game = markov_game(grid_world_v0.parallel_env(rewards="heterogeneous"))
    policies = exact_policies(game, 4, discount=0.9, temperature=3.0)
    LearningTrace(
        tuple(
            Stage(np.rint(1e6 * one[:, :, None] * other[:, None, :]).astype(np.int64))
            for one, other in policies
        )
    ).save("trace.npz")
    GroundTruth(
        {agent: game.reward(index) for index, agent in enumerate(game.agents)},
        {agent: np.stack([stage[i] for stage in policies]) for i, agent in enumerate(game.agents)},
    ).save("truth.npz")
    write_rewards({agent: game.reward(index) for index, agent in enumerate(game.agents)})
    return game


def write_rewards(rewards, folder="r"):
    write_arrays(Path(folder, "rewards.npz"), rewards)


def score(*options):
    assert main(["score", "r/rewards.npz", *options, "--json", "scores.json"]) == 0
    return json.loads(Path("scores.json").read_text())


def test_the_ground_truth_has_perfect_scores(game, capsys):
    write_arrays(
        Path("r/posterior.npz"), {f"{agent}_covariance": np.eye(81) for agent in game.agents}
    )
    Path("r/diagnostics.json").write_text(
        '{"agent_0": {"n_stages": 2}, "agent_1": {"n_stages": 3}}'
    )
    rows = score("--ground-truth", "truth.npz", "--trace", "trace.npz")
    for row in rows:
        assert (row["pearson"], row["spearman"]) == pytest.approx((1, 1))
        for name in ("epic", "starc", "epic_averaged", "starc_averaged", "regret"):
            assert row[name] == pytest.approx(0, abs=1e-12)
        assert [row[f"coverage_{k}sd"] for k in (1, 2, 3)] == [1, 1, 1]
        assert row["predicted_divergence"] < 1e-6 < row["no_change_divergence"]
        # one agent's reward was recovered from three stages, so only the last is held out for both
        assert row["prediction"] == {"stages": [3], "in_sample": False}
        assert row["reasons"] == {}
    assert "Missing scores" not in capsys.readouterr().out


def test_rewards_of_next_states_are_not_scored_as_those_of_states(game, capsys):
    """In files and in runs; a result in memory has the same reason for every score."""
    said = {agent: {"reward_model": "next_state"} for agent in game.agents}
    Path("r/diagnostics.json").write_text(json.dumps(said))
    assert main(["score", "r/rewards.npz", "--ground-truth", "truth.npz"]) == 2
    assert "the reward of agent_0 is of the next state, r(s'), " in capsys.readouterr().err
    rewards = {agent: game.reward(index) for index, agent in enumerate(game.agents)}
    rows = scored_rows(Reference(rewards), {"": RecoveredRewards(rewards, said)}, TRUTH_ALONE)
    for row in rows:
        assert row["pearson"] is None
        assert "is of the next state" in row["reasons"]["pearson"]


def test_a_figure_of_the_rewards_against_the_ground_truth(game, capsys):
    score("--ground-truth", "truth.npz", "--figure", "truth.png")
    assert Path("truth.png").read_bytes().startswith(b"\x89PNG")
    assert main(["score", "r/rewards.npz", "--trace", "trace.npz", "--figure", "other.png"]) == 2
    assert "add --ground-truth FILE" in capsys.readouterr().err
    assert not Path("other.png").exists()


def test_without_ground_truth(game, capsys):
    """The output states that the prediction is in sample, and what other scores need."""
    rows = score("--trace", "trace.npz")
    for row in rows:
        assert {row[name] for name in AGAINST_TRUTH} == {None}
        assert row["predicted_log_likelihood"] > row["no_change_log_likelihood"]
        assert row["prediction"] == {"stages": [3], "in_sample": True}
        assert set(row["reasons"].values()) == {
            "needs the ground-truth rewards: --ground-truth FILE"
        }
    out = capsys.readouterr().out
    assert "in sample" in out
    assert "  pearson, spearman, epic, starc, epic_averaged" in out
    assert out.endswith(": needs the ground-truth rewards: --ground-truth FILE\n")


def test_without_a_trace_or_a_posterior(game, capsys):
    write_arrays(Path("r/posterior.npz"), {"agent_0_sd": np.ones(81)})
    rows = score("--ground-truth", "truth.npz")
    for row in rows:
        assert {row[name] for name in (*PREDICTIONS, *CALIBRATION)} == {None}
        assert row["prediction"] is None
        assert row["reasons"]["predicted_divergence"] == "needs the trace: --trace FILE"
    assert "keep the posterior covariance" in rows[0]["reasons"]["sd_ratio"]
    assert rows[1]["reasons"]["sd_ratio"] == "no posterior covariance is given"
    assert "coverage_1sd (agent_1), " in capsys.readouterr().out


def test_constant_rewards(game):
    write_rewards({"agent_1": np.zeros((81, 5, 5))})
    (row,) = score("--ground-truth", "truth.npz", "--trace", "trace.npz")
    assert row["agent"] == "agent_1"
    assert row["pearson"] is row["epic"] is row["starc_averaged"] is None
    assert row["reasons"]["pearson"] == "the estimate is constant"
    assert row["reasons"]["epic"].startswith("the estimate is constant up to shaping")
    # agent_0 learns from its ground-truth reward
    assert 0.5 < row["regret"] < 1.5


def test_rewards_that_are_not_finite(game):
    holed = np.where(np.arange(81) == 40, np.nan, game.reward(0))
    write_rewards({"agent_0": holed, "agent_1": game.reward(1)})
    broken, sound = score("--ground-truth", "truth.npz", "--trace", "trace.npz")
    assert sound["pearson"] == pytest.approx(1)
    assert sound["epic"] == pytest.approx(0, abs=1e-12)
    assert all(broken[name] is None for name in (*AGAINST_TRUTH, *PREDICTIONS))
    # all agents learn together, so the other agent has no regret either
    assert "agent_0's reward has values that are not finite" in sound["reasons"]["regret"]


def test_another_game_needs_its_configuration(game, capsys):
    small = markov_game(grid_world_v0.parallel_env(size=2))
    policies = exact_policies(small, 3, discount=0.9, temperature=3.0)
    GroundTruth(
        {agent: small.reward(index) for index, agent in enumerate(small.agents)},
        {agent: np.stack([s[i] for s in policies]) for i, agent in enumerate(small.agents)},
    ).save("small.npz")
    write_rewards({agent: small.reward(index) for index, agent in enumerate(small.agents)})
    row = score("--ground-truth", "small.npz")[0]
    assert (row["pearson"], row["epic"]) == (pytest.approx(1), None)
    assert row["reasons"]["epic"].endswith("--config FILE")
    Path("small.yaml").write_text("game: {size: 2}")
    row = score("--ground-truth", "small.npz", "--config", "small.yaml")[0]
    assert row["epic"] == pytest.approx(0, abs=1e-12)
    capsys.readouterr()
    argv = ["score", "r/rewards.npz", "--config", "small.yaml", "--trace", "trace.npz"]
    assert main(argv) == 2
    assert "trace.npz is of a game with 81 joint states" in capsys.readouterr().err
    argv = ["score", "r/rewards.npz", "--ground-truth", "truth.npz"]
    assert main(argv) == 2
    assert capsys.readouterr().err.startswith("malfl: r/rewards.npz does not fit: ")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (
            [],
            "nothing to score against: give --ground-truth FILE (the ground-truth rewards), ",
        ),
        (["--trace", "truth.npz"], "truth.npz: expected a malfl learning trace"),
        (["--ground-truth", "trace.npz"], "trace.npz: expected a malfl ground truth"),
        (["--trace", "absent.npz"], "absent.npz: no such file"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(game, capsys, options, complaint):
    assert main(["score", "r/rewards.npz", *options, "--json", "scores.json"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert complaint in err
    assert not Path("scores.json").exists()


def test_recovering_from_the_first_stages_holds_out_the_others(capsys):
    assert main(["learn", "fake", "--output-dir", "t", "--iterations", "4"]) == 0
    recover = ["recover", "t/trace.npz", "--observer", "counting"]
    assert main([*recover, "--output-dir", "r", "--stages", "2"]) == 0
    first = LearningTrace.load("t/trace.npz").first(2)
    expected = first.stages[-1].action_counts(0)[:, 0]
    np.testing.assert_array_equal(read_arrays(Path("r/rewards.npz"))[0]["agent_0"], expected)
    row = score("--trace", "t/trace.npz")[0]
    assert row["prediction"] == {"stages": [2, 3], "in_sample": False}
    capsys.readouterr()
    for n_stages in ("0", "5"):
        assert main([*recover, "--output-dir", "other", "--stages", n_stages]) == 2
        assert "--stages must be 1..4, the stages of t/trace.npz; got" in capsys.readouterr().err
    assert not Path("other").exists()


def test_a_run_has_the_same_scores(capsys):
    options = ["--learner", "fake", "--observers", "counting", "--iterations", "3", "--seeds", "0"]
    assert main(["reproduce", *options, "--output-dir", "whole", "--jobs", "1"]) == 0
    assert "EPIC avg" in capsys.readouterr().out
    summary = json.loads(Path("whole/summary.json").read_text())
    rows = [row for row in summary["results"] if row["family"] == "heterogeneous"]
    Path("het.yaml").write_text("reward_families: [heterogeneous]")
    unit = Path("whole/heterogeneous/seed_0")
    argv = ["score", str(unit / "counting" / "rewards.npz"), "--config", "het.yaml"]
    truth = str(unit / "fake" / "ground_truth.npz")
    assert main([*argv, "--ground-truth", truth, "--json", "s.json"]) == 0
    for row, alone in zip(rows, json.loads(Path("s.json").read_text()), strict=True):
        for name in ("agent", *AGAINST_TRUTH):
            assert row[name] == alone[name], name
        assert 0 < row["epic"] <= 1
        assert row["regret"] > 0
        assert set(row["reasons"]) == set(CALIBRATION)
    aggregated = summary["aggregate"][1]
    assert aggregated["epic"]["mean"] == pytest.approx(np.mean([row["epic"] for row in rows]))
    assert aggregated["agents"]["agent_0"]["regret"]["mean"] == rows[0]["regret"]
    assert aggregated["sd_ratio"]["mean"] is None


@pytest.fixture
def two_runs(fakes_in_an_empty_folder, tmp_path_factory):
    """Folders `a` and `b`: trace, ground truth and rewards of seeds 0 and 1, in one game."""
    kept = tmp_path_factory.getbasetemp() / "two_runs"
    if kept.exists():
        shutil.copytree(kept, ".", dirs_exist_ok=True)
        return
    for name, seed in (("a", 0), ("b", 1)):
        learn = ["learn", "fake", "--output-dir", name, "--iterations", "3", "--seed", str(seed)]
        assert main(learn) == 0
        recover = ["recover", f"{name}/trace.npz", "--observer", "counting"]
        assert main([*recover, "--output-dir", f"{name}/r", "--stages", "2"]) == 0
    shutil.copytree(".", kept)


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ("--ground-truth b/ground_truth.npz", "of different runs: their data of stage 0 differ"),
        ("--trace b/trace.npz", "of different runs: their data of stage 0 differ"),
        ("--ground-truth a/ground_truth.npz --trace b/trace.npz", "of different runs"),
        ("--ground-truth a/ground_truth.npz --config slow.yaml", "another discount"),
        ("--trace a/trace.npz --config slow.yaml", "another discount"),
        ("--trace a/trace.npz --config hot.yaml", "another temperature"),
        ("--ground-truth a/ground_truth.npz --config wall.yaml", "another game"),
        ("--trace a/trace.npz --config wall.yaml", "another game"),
    ],
)
@pytest.mark.usefixtures("two_runs")
def test_files_of_another_run_are_rejected(files, complaint, capsys):
    Path("slow.yaml").write_text("discount: 0.8")
    Path("hot.yaml").write_text("temperature: 4.0")
    Path("wall.yaml").write_text("game: {walls: [[1, 1]]}")
    capsys.readouterr()
    argv = ["score", "a/r/rewards.npz", *files.split(), "--json", "scores.json"]
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert complaint in err
    assert (out, len(err.splitlines())) == ("", 1)
    assert not Path("scores.json").exists()
    assert main([*argv, "--allow-unrelated"]) == 0


@pytest.mark.usefixtures("two_runs")
def test_files_of_one_run_are_scored_and_named(capsys):
    files = ["--ground-truth", "a/ground_truth.npz", "--trace", "a/trace.npz"]
    assert main(["score", "a/r/rewards.npz", *files, "--json", "scores.json"]) == 0
    assert capsys.readouterr().err == ""
    first, second = json.loads(Path("scores.json").read_text())
    assert first["made_from"] == second["made_from"]
    assert set(first["made_from"]) == {"rewards", "ground_truth", "trace"}
    assert first["prediction"] == {"stages": [2], "in_sample": False}


@pytest.mark.parametrize("name", ["rewards.npz", "posterior.npz", "diagnostics.json"])
@pytest.mark.usefixtures("two_runs")
def test_a_file_of_another_result_is_rejected(name, capsys):
    """A posterior of another method gave calibration without a warning."""
    if name == "diagnostics.json":
        Path("a/r", name).write_text("{}")
    else:
        write_arrays(Path("a/r", name), {"agent_0": np.zeros(81), "agent_1": np.zeros(81)})
    assert main(["score", "a/r/rewards.npz", "--ground-truth", "a/ground_truth.npz"]) == 2
    assert f"a/r/{name} is not the file that a/r/result.json describes" in capsys.readouterr().err


@pytest.mark.usefixtures("two_runs")
def test_without_a_record_a_note_says_what_was_not_checked(capsys):
    Path("a/r/result.json").unlink()
    assert main(["score", "a/r/rewards.npz", "--ground-truth", "b/ground_truth.npz"]) == 0
    err = capsys.readouterr().err
    assert "not checked whether it is of the same run: a/r/rewards.npz" in err


@pytest.mark.usefixtures("two_runs")
def test_another_result_leaves_no_file_of_the_one_before():
    recover = ["recover", "a/trace.npz", "--output-dir", "a/r", "--overwrite", "--observer"]
    assert main([*recover, "ma-lfl-state"]) == 0
    assert {path.name for path in Path("a/r").iterdir()} == {
        "rewards.npz",
        "diagnostics.json",
        "estimated_policies.npz",
        "potentials.npz",
        "targets.npz",
        "result.json",
        "source.npz",
    }


@pytest.mark.usefixtures("two_runs")
def test_scores_are_written_through_links_and_pipes():
    """They replaced `/dev/null`, and the links and pipes of users, by a file."""
    argv = ["score", "a/r/rewards.npz", "--ground-truth", "a/ground_truth.npz", "--json"]
    Path("real.json").write_text("old")
    Path("link.json").symlink_to("real.json")
    assert main([*argv, "link.json"]) == 0
    assert Path("link.json").is_symlink()
    expected = Path("real.json").read_bytes()
    assert json.loads(expected)[0]["agent"] == "agent_0"
    os.mkfifo("pipe")
    reader = subprocess.Popen(["cat", "pipe"], stdout=subprocess.PIPE)
    assert main([*argv, "pipe"]) == 0
    assert reader.communicate(timeout=30)[0] == expected
    assert stat.S_ISFIFO(os.stat("pipe").st_mode)
    Path("null").symlink_to(os.devnull)
    for name in ("null", os.devnull):
        assert main([*argv, name]) == 0
        assert stat.S_ISCHR(os.stat(name).st_mode)
