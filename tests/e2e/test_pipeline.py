import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_plugins import install

from malfl_algos import LearningTrace
from malfl_algos.experiments.config import from_mapping
from malfl_algos.experiments.engine import RunFailed, reproduce
from malfl_algos.ground_truth import GroundTruth
from malfl_algos.scores import pearson
from malfl_algos.storage.arrays import read_arrays

SMALL: dict[str, Any] = {
    "game": {"size": 2},
    "iterations": 4,
    "seeds": [0, 3],
    "learner": "fake",
    "observers": ["counting", {"name": "counting", "label": "joint", "options": {"joint": True}}],
}
UNITS = [
    f"{family}/seed_{seed}/{label}"
    for family in ("homogeneous", "heterogeneous")
    for seed in (0, 3)
    for label in ("fake", "counting", "joint")
]


@pytest.fixture(autouse=True)
def _plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "plugins", monkeypatch)


def _run(root: Path, *, jobs: int = 1, overwrite: bool = False, **changes: Any) -> dict[str, Any]:
    config = from_mapping({**SMALL, **changes})
    return reproduce(config, root, jobs=jobs, overwrite=overwrite, log=lambda _: None)


def _content(root: Path) -> dict[str, bytes]:
    """Every file but `run.json`, which holds times."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.name != "run.json"
    }


def _units(content: dict[str, bytes]) -> dict[str, bytes]:
    return {path: text for path, text in content.items() if "/seed_" in path}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("undisturbed") / "run"
    with pytest.MonkeyPatch.context() as patch:
        install(tmp_path_factory.mktemp("plugins"), patch)
        _run(root)
    return root


def test_files_are_those_of_the_contract(undisturbed):
    for name in ("config.yaml", "run.json", "summary.json", "cross_correlation.csv", "trend.csv"):
        assert (undisturbed / name).is_file()
    for unit in UNITS:
        files = {path.name for path in (undisturbed / unit).iterdir()}
        if unit.endswith("fake"):
            assert files == {"trace.npz", "ground_truth.npz"}
        else:
            results = {"rewards.npz", "posterior.npz", "diagnostics.json", "result.json"}
            assert files == {*results, "trend.json"}
    shapes = {
        label: {agent: array.shape for agent, array in read_arrays(path)[0].items()}
        for label in ("counting", "joint")
        for path in [undisturbed / "homogeneous" / "seed_0" / label / "rewards.npz"]
    }
    assert shapes["counting"] == {"agent_0": (16,), "agent_1": (16,)}
    assert shapes["joint"] == {"agent_0": (16, 5, 5), "agent_1": (16, 5, 5)}
    assert not list(undisturbed.rglob(".*"))


def test_a_trace_is_what_the_learner_did_and_holds_no_truth(undisturbed):
    folder = undisturbed / "heterogeneous" / "seed_3" / "fake"
    assert LearningTrace.load(folder / "trace.npz").n_stages == 4
    with np.load(folder / "trace.npz") as archive:
        assert sorted(archive.files) == ["joint_counts", "manifest"]
    truth = GroundTruth.load(folder / "ground_truth.npz")
    game = from_mapping(SMALL).markov_game("heterogeneous")
    np.testing.assert_array_equal(truth.rewards["agent_0"], game.reward(0))
    assert truth.joint_policies["agent_1"].shape == (4, 16, 5)


def test_tables_hold_the_correlations_of_the_files(undisturbed):
    summary = json.loads((undisturbed / "summary.json").read_text())
    assert len(summary["results"]) == 2 * 2 * 2 * 2
    crossed = _rows(undisturbed / "cross_correlation.csv")
    assert list(crossed[0]) == [
        "observer",
        "seed",
        "recovered_family",
        "true_family",
        "agent",
        "pearson",
        "spearman",
        "verdict",
    ]
    for row in crossed:
        unit = undisturbed / row["recovered_family"] / f"seed_{row['seed']}"
        truth = undisturbed / row["true_family"] / "seed_0" / "fake" / "ground_truth.npz"
        recovered = read_arrays(unit / row["observer"] / "rewards.npz")[0][row["agent"]]
        expected = pearson(recovered, GroundTruth.load(truth).rewards[row["agent"]]).value
        assert float(row["pearson"]) == expected
    own = [row for row in crossed if row["recovered_family"] == row["true_family"]]
    assert [float(row["pearson"]) for row in own] == [r["pearson"] for r in summary["results"]]
    assert [r["family"] for r in summary["results"]] == [row["true_family"] for row in own]


def test_the_trend_ends_at_the_result(undisturbed):
    rows = _rows(undisturbed / "trend.csv")
    assert list(rows[0]) == [
        "family",
        "observer",
        "seed",
        "agent",
        "n_stages",
        "pearson",
        "spearman",
        "verdict",
    ]
    assert {row["n_stages"] for row in rows} == {"2", "3", "4"}
    last = {
        (r["family"], r["observer"], r["seed"], r["agent"]): float(r["spearman"])
        for r in rows
        if r["n_stages"] == "4"
    }
    summary = json.loads((undisturbed / "summary.json").read_text())
    assert last == {
        (r["family"], r["observer"], str(r["seed"]), r["agent"]): r["spearman"]
        for r in summary["results"]
    }


def test_results_do_not_depend_on_the_number_of_workers(undisturbed, tmp_path):
    _run(tmp_path / "run", jobs=2)
    assert _content(tmp_path / "run") == _content(undisturbed)


@pytest.mark.parametrize("unit", UNITS)
def test_a_missing_unit_is_done_again_and_nothing_else(undisturbed, tmp_path, unit):
    root = tmp_path / "run"
    shutil.copytree(undisturbed, root)
    shutil.rmtree(root / unit)
    kept = {path: path.stat().st_mtime_ns for path in root.rglob("*.npz")}
    _run(root)
    assert _content(root) == _content(undisturbed)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_damaged_file_is_made_again(undisturbed, tmp_path):
    root = tmp_path / "run"
    shutil.copytree(undisturbed, root)
    for name in ("fake/trace.npz", "joint/rewards.npz"):
        path = root / "homogeneous" / "seed_0" / name
        path.write_bytes(path.read_bytes()[:-7])
    _run(root)
    assert _content(root) == _content(undisturbed)


def test_an_interrupted_run_is_finished(undisturbed, tmp_path, monkeypatch):
    from malfl_algos.experiments import engine as pipeline

    root = tmp_path / "run"
    done = []

    def interrupted_at_the_sixth(unit: Any) -> Any:
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(unit)
        return original(unit)

    original = pipeline.run_unit
    monkeypatch.setattr(pipeline, "run_unit", interrupted_at_the_sixth)
    with pytest.raises(KeyboardInterrupt):
        _run(root)
    monkeypatch.setattr(pipeline, "run_unit", original)
    kept = {path: path.stat().st_mtime_ns for path in root.rglob("*.npz")}
    assert len({path.parent for path in kept}) == 5
    _run(root)
    assert _content(root) == _content(undisturbed)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_seeds_families_and_observers_can_be_added_one_by_one(undisturbed, tmp_path):
    """In any order: what a unit holds depends on its own family, seed and plugin alone."""
    root = tmp_path / "run"
    _run(root, seeds=[3], reward_families=["heterogeneous"], observers=SMALL["observers"][1:])
    _run(root, seeds=[0], reward_families=["heterogeneous"], observers=SMALL["observers"][:1])
    summary = _run(root)
    assert _units(_content(root)) == _units(_content(undisturbed))
    assert len(summary["results"]) == 16


def test_any_other_difference_is_rejected_and_nothing_changes(undisturbed):
    before = _content(undisturbed)
    with pytest.raises(ValueError, match=r"discount is 0.9 in the folder, but 0.5 was requested"):
        _run(undisturbed, discount=0.5)
    assert _content(undisturbed) == before


def test_starting_afresh(undisturbed, tmp_path):
    root = tmp_path / "run"
    shutil.copytree(undisturbed, root)
    _run(root, overwrite=True, seeds=[1], trend=False)
    assert not (root / "trend.csv").exists()
    assert {path.name for path in root.glob("*/seed_*")} == {"seed_1"}


def test_an_observer_that_needs_transitions_gets_them_and_the_counts_stay(undisturbed, tmp_path):
    root = tmp_path / "run"
    shutil.copytree(undisturbed, root)
    _run(root, observers=["needy"])
    before, after = _units(_content(undisturbed)), _units(_content(root))
    changed = {path for path in before if after[path] != before[path]}
    assert changed == {f"{unit}/trace.npz" for unit in UNITS if unit.endswith("fake")}
    for path in changed:
        old, new = LearningTrace.load(undisturbed / path), LearningTrace.load(root / path)
        assert old.stages[0].transitions is None
        assert new.stages[0].transitions is not None
        for one, other in zip(old.stages, new.stages, strict=True):
            np.testing.assert_array_equal(one.joint_counts, other.joint_counts)
    again = _content(root)
    _run(root)
    assert _content(root) == again


def test_a_trace_that_cannot_be_repeated_is_kept(undisturbed, tmp_path, monkeypatch):
    root = tmp_path / "run"
    shutil.copytree(undisturbed, root)
    monkeypatch.setattr(
        "malfl_algos.experiments.cell.learner_rng", lambda family, seed: np.random.default_rng()
    )
    with pytest.raises(RunFailed, match="the learner does not repeat itself"):
        _run(root, observers=["needy"])
    assert _units(_content(root)) == _units(_content(undisturbed))


def test_a_failing_unit_is_named_and_the_others_are_done(tmp_path):
    root = tmp_path / "run"
    lines: list[str] = []
    config = from_mapping({**SMALL, "seeds": [0, 1], "observers": ["failing", "counting"]})
    with pytest.raises(RunFailed) as caught:
        reproduce(config, root, jobs=1, log=lines.append)
    assert str(caught.value).splitlines() == [
        f"family {family}, seed 1, observer 'failing': RuntimeError: the disk is on fire"
        for family in ("homogeneous", "heterogeneous")
    ]
    assert (root / "homogeneous" / "seed_1" / "counting" / "rewards.npz").exists()
    assert (root / "homogeneous" / "seed_0" / "failing" / "rewards.npz").exists()
    assert not (root / "homogeneous" / "seed_1" / "failing").exists()
    failures = json.loads((root / "run.json").read_text())["failures"]
    assert "RuntimeError" in failures[0]["traceback"]
    assert sum("failed" in line for line in lines) == 2


def test_an_observer_may_reject_short_traces(tmp_path):
    _run(tmp_path / "run", observers=["failing"], seeds=[0])
    rows = _rows(tmp_path / "run" / "trend.csv")
    assert {row["n_stages"]: row["pearson"] == "" for row in rows} == {
        "2": True,
        "3": False,
        "4": False,
    }


@pytest.mark.parametrize(
    ("mode", "complaint"),
    [
        ("short", "learner 'fake' yielded 3 stages, n_stages is 4"),
        (
            "misshapen",
            r"learner 'fake': stage 0: counts of another game: shape \(15, 5, 5\), expected",
        ),
    ],
)
def test_a_learner_that_breaks_the_contract(tmp_path, mode, complaint):
    learner = {"name": "fake", "options": {"mode": mode}}
    with pytest.raises(RunFailed, match=f"seed 3, learner 'fake': {complaint}"):
        _run(tmp_path / "run", learner=learner)


def test_one_of_two_agents_observes_the_other(undisturbed, tmp_path):
    root = tmp_path / "run"
    _run(root, seat="agent", observers=["counting"])
    unit = Path("homogeneous") / "seed_0"
    outside = read_arrays(undisturbed / unit / "counting" / "rewards.npz")[0]
    inside = read_arrays(root / unit / "counting" / "rewards.npz")[0]
    played = GroundTruth.load(root / unit / "fake" / "ground_truth.npz").joint_policies
    # the fake observer subtracts the known policy: that of the observing agent
    np.testing.assert_allclose(
        inside["agent_0"], outside["agent_0"] - played["agent_1"][-1][:, 0], rtol=1e-12
    )
    np.testing.assert_allclose(
        inside["agent_1"], outside["agent_1"] - played["agent_0"][-1][:, 0], rtol=1e-12
    )
    assert "observing" not in _rows(root / "trend.csv")[0]


def test_each_of_three_agents_observes_the_others(tmp_path):
    root = tmp_path / "run"
    summary = _run(
        root, seat="agent", observers=["counting"], game={"size": 2, "n_agents": 3}, seeds=[0]
    )
    unit = root / "homogeneous" / "seed_0" / "counting"
    assert sorted(read_arrays(unit / "agent_1" / "rewards.npz")[0]) == ["agent_0", "agent_2"]
    pairs = {("agent_0", "agent_1"), ("agent_0", "agent_2"), ("agent_1", "agent_0")}
    pairs |= {("agent_1", "agent_2"), ("agent_2", "agent_0"), ("agent_2", "agent_1")}
    assert {(row["observing"], row["agent"]) for row in summary["results"]} == pairs
    trend = _rows(root / "trend.csv")
    assert {(row["observing"], row["agent"]) for row in trend} == pairs
    before = _content(root)
    shutil.rmtree(unit / "agent_1")
    _run(root, seat="agent", observers=["counting"], game={"size": 2, "n_agents": 3}, seeds=[0])
    assert _content(root) == before


def test_user_defined_families(tmp_path):
    table = list(range(16))
    summary = _run(
        tmp_path / "run",
        families={"mine": ["approach", table], "flat": ["avoid", [1.0] * 16]},
        reward_families=["mine", "flat"],
        seeds=[0],
        observers=["counting"],
    )
    truth = GroundTruth.load(tmp_path / "run" / "mine" / "seed_0" / "fake" / "ground_truth.npz")
    np.testing.assert_array_equal(truth.rewards["agent_1"], table)
    flat = [r for r in summary["results"] if (r["family"], r["agent"]) == ("flat", "agent_1")]
    assert [(row["pearson"], row["reasons"]["pearson"]) for row in flat] == [
        (None, "the ground-truth reward is constant")
    ]
