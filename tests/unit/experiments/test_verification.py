import shutil
from pathlib import Path

import pytest
from fake_plugins import install

from malfl_algos.experiments.config import ExperimentConfig, from_mapping, to_mapping
from malfl_algos.experiments.engine import reproduce
from malfl_algos.experiments.folder import open_run
from malfl_algos.experiments.records import DamagedRecord, read_record, write_record
from malfl_algos.experiments.verification import verify
from malfl_algos.storage.durable import file_checksum, value_hash
from malfl_algos.storage.yaml_files import yaml_text

OUTSIDE = ("figures/../../x", "../x", "/tmp/x", "figures\\..\\x", "figures/./x", "figures//x")
UNIT = "homogeneous/seed_0/counting"
SMALL = {
    "game": {"size": 2},
    "reward_families": ["homogeneous"],
    "iterations": 3,
    "seeds": [0, 1],
    "learner": "fake",
    "observers": ["counting"],
}


def _nothing(*_: object, **__: object) -> list[Path]:
    """Draws no figure."""
    return []


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        install(tmp_path_factory.mktemp("plugins"), patch)
        reproduce(from_mapping(SMALL), root, jobs=1, draw=_nothing, log=lambda _: None)
    return root


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return shutil.copytree(finished, tmp_path / "run")


def test_a_finished_run_has_no_faults_and_verify_changes_nothing(run):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    verdict = verify(run)
    assert (verdict.notes, verdict.faults) == ((), ())
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_further_files_are_no_fault(run):
    (run / "notes.txt").write_text("mine")
    assert verify(run).faults == ()


def test_a_folder_of_something_else(tmp_path):
    with pytest.raises(ValueError, match=r"is not the folder of a run: it has no run\.json"):
        verify(tmp_path)


def test_what_was_left_unfinished_is_named(run):
    (run / "homogeneous" / "seed_0" / ".counting.partial").mkdir()
    (run / ".summary.json.0a1b2c3d.partial").touch()
    assert verify(run).faults == (
        ".summary.json.0a1b2c3d.partial: left unfinished by a process that died",
        "homogeneous/seed_0/.counting.partial: left unfinished by a process that died",
    )


def test_a_table_that_is_recorded_but_not_of_these_units(run):
    """The checksum is right, but the content is wrong."""
    path = run / "summary.json"
    path.write_text(path.read_text().replace(": 0.", ": 0.1", 1))
    record = read_record(run)
    record["files"]["summary.json"] = file_checksum(path)
    write_record(run, record)
    assert "summary.json: its content differs from what the units give" in verify(run).faults


def test_a_unit_that_is_recorded_but_of_another_seed(run):
    other = UNIT.replace("seed_0", "seed_1")
    shutil.copy(run / other / "rewards.npz", run / UNIT / "rewards.npz")
    assert verify(run).faults == (
        f"{UNIT}/rewards.npz: damaged: its checksum is not the one in run.json",
    )
    record = read_record(run)
    record["files"][f"{UNIT}/rewards.npz"] = file_checksum(run / UNIT / "rewards.npz")
    write_record(run, record)
    assert verify(run).faults == (f"{UNIT}: its checksum is not that of its files",)
    own = {p: c for p, c in record["files"].items() if p.startswith(f"{UNIT}/")}
    sums = {path.removeprefix(f"{UNIT}/"): checksum for path, checksum in own.items()}
    record["parts"][UNIT]["checksum"] = value_hash(sums)
    write_record(run, record)
    faults = verify(run).faults
    assert "summary.json: its content differs from what the units give" in faults
    assert "tables: out of date: made from other files than the present ones" in faults


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"configuration_hash": "0"}, "run.json: configuration_hash is not that of its"),
        ({"seeds": [0]}, "run.json: its seeds are not those of its configuration"),
        ({"versions": {}}, f"{UNIT}: made with versions that run.json does not list"),
        ({"parts": {}}, f"{UNIT}: missing"),
        ({"files": {}}, f"{UNIT}/rewards.npz: not in run.json"),
    ],
)
def test_a_record_that_contradicts_itself(run, change, complaint):
    write_record(run, {**read_record(run), **change})
    assert any(fault.startswith(complaint) for fault in verify(run).faults)


def test_an_observer_of_another_trace_is_done_again(run, monkeypatch, tmp_path):
    install(tmp_path / "plugins", monkeypatch)
    record = read_record(run)
    record["parts"]["homogeneous/seed_0/fake"]["trace"] = "of a learner that does not repeat itself"
    write_record(run, record)
    assert verify(run).faults[:1] == (
        f"{UNIT}: made from another trace than homogeneous/seed_0/fake/trace.npz",
    )
    lines: list[str] = []
    reproduce(from_mapping(SMALL), run, jobs=1, draw=_nothing, log=lines.append)
    assert next(line for line in lines if "1 of" in line).startswith(
        "recovering: 1 of 1: family homogeneous, seed 0, observer 'counting'"
    )


def test_a_file_that_was_written_damaged(run):
    """The checksum is right, but the file cannot be read."""
    path = run / UNIT / "posterior.npz"
    path.write_bytes(b"PK\x03\x04")
    record = read_record(run)
    record["files"][f"{UNIT}/posterior.npz"] = file_checksum(path)
    write_record(run, record)
    name = f"{UNIT}/posterior.npz: not readable, although it is unchanged: "
    assert verify(run).faults[0].startswith(name)


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("with_config", [True, False])
def test_files_elsewhere_are_rejected(tmp_path: Path, name: str, with_config: bool) -> None:
    """A record that names files elsewhere is rejected: nothing outside is read or removed."""
    root, config = tmp_path / "run", ExperimentConfig()
    root.mkdir()
    (tmp_path / "x").write_text("mine")
    record = {
        "configuration": to_mapping(config),
        "files": {name: "0" * 64},
        "parts": {},
        "wall_seconds": {},
        "earlier_versions": [],
        "versions": {},
    }
    write_record(root, record)
    if with_config:
        (root / "config.yaml").write_text(yaml_text(to_mapping(config)))
    assert any("must lie in its folder" in fault for fault in verify(root).faults)
    with pytest.raises(DamagedRecord, match="must lie in its folder"):
        open_run(root, config, overwrite=False)
    if with_config:
        folder = open_run(root, config, overwrite=True)
        assert folder.files == {}
        folder.begin([])
    else:
        with pytest.raises(DamagedRecord, match=r"config\.yaml is not readable, either"):
            open_run(root, config, overwrite=True)
    assert (tmp_path / "x").read_text() == "mine"
