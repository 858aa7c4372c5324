import json
import os
import tempfile
from pathlib import Path

import pytest
from fake_plugins import install
from interpreter import printed

from malfl_algos.experiments.cell import check_parts
from malfl_algos.experiments.config import ExperimentConfig, from_mapping, load_config
from malfl_algos.experiments.folder import RunFolder, open_run
from malfl_algos.experiments.jobs import run_unit
from malfl_algos.experiments.records import read_record, write_record
from malfl_algos.storage.outputs import check_writable

SMALL = {
    "game": {"size": 2},
    "reward_families": ["homogeneous"],
    "iterations": 3,
    "seeds": [0],
    "learner": "fake",
    "observers": ["counting"],
}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExperimentConfig:
    install(tmp_path / "plugins", monkeypatch)
    return from_mapping(SMALL)


@pytest.fixture
def finished(tmp_path: Path, config: ExperimentConfig) -> RunFolder:
    """A run whose units are done."""
    folder = open_run(tmp_path / "run", config, overwrite=False)
    folder.begin(check_parts(config))
    for kind in ("learner", "observer"):
        for unit in folder.units(kind):
            folder.add(run_unit(unit))
    folder.save()
    return folder


def test_opening_a_run_writes_nothing(tmp_path, config):
    open_run(tmp_path / "a" / "b", config, overwrite=False)
    assert not (tmp_path / "a").exists()


def test_a_folder_of_something_else_is_rejected(tmp_path, config):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    for overwrite in (False, True):
        for place in ("file", "file/run"):
            with pytest.raises(ValueError, match=r"cannot be made: .*file is a file"):
                open_run(tmp_path / place, config, overwrite=overwrite)
        with pytest.raises(ValueError, match="not empty and not the folder of a run"):
            open_run(tmp_path / "full", config, overwrite=overwrite)


@pytest.mark.parametrize(
    "name", ["run.log", "slurm-17.out", "job.err", ".DS_Store", "._x", ".nfs01", "Thumbs.db"]
)
def test_the_log_of_a_run_may_lie_in_its_folder(tmp_path, config, name):
    root = tmp_path / "run"
    root.mkdir()
    (root / name).write_text("what the command says")
    folder = open_run(root, config, overwrite=False)
    folder.begin(check_parts(config))
    assert open_run(root, config, overwrite=True).config == config
    assert (root / name).read_text() == "what the command says"


def test_a_new_file_system_is_an_empty_folder(tmp_path, config):
    root = tmp_path / "disk"
    (root / "lost+found").mkdir(parents=True)
    folder = open_run(root, config, overwrite=False)
    folder.begin(check_parts(config))
    assert open_run(root, config, overwrite=True).config == config
    assert (root / "lost+found").is_dir()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="the system has no /proc")
def test_a_system_folder_is_rejected():
    with pytest.raises(ValueError, match="the output folder /proc/x is not writable: no folder"):
        check_writable(Path("/proc/x"))


def test_a_folder_without_permission_is_rejected():
    """Root may write anywhere, so another user has to try."""
    program = (
        "import os, sys; from pathlib import Path",
        "from malfl_algos.storage.outputs import check_writable",
        "os.geteuid() == 0 and os.setuid(65534)",
        "for place in ('', 'new/run'):",
        "    try: check_writable(Path(sys.argv[1], place))",
        "    except ValueError as fault: print(fault)",
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        told = printed(*program, argv=(name,))
        folder.chmod(0o755)
        check_writable(folder / "new")
    assert told.splitlines() == [
        f"the output folder {folder / place} is not writable: no permission in {folder}"
        for place in ("", "new/run")
    ]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"format": "x"}', '{"format": "malfl run folder", "files": 3}']
)
def test_a_damaged_record_is_named(tmp_path, config, content):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(content)
    with pytest.raises(ValueError, match=r"run.json: not readable as the record of a run"):
        open_run(tmp_path / "run", config, overwrite=False)


def test_the_record_says_what_was_run_and_with_what(finished, config):
    record = json.loads((finished.root / "run.json").read_text())
    assert from_mapping(record["configuration"]) == config
    assert load_config(finished.root / "config.yaml") == config
    assert record["seeds"] == [0]
    assert record["plugins"][0] == {
        "kind": "learner",
        "label": "fake",
        "name": "fake",
        "distribution": "fakes",
        "version": "1.2",
    }
    assert {"python", "numpy", "scipy", "numba", "malfl-env"} <= record["versions"].keys()
    on_disk = {p.relative_to(finished.root).as_posix() for p in finished.root.rglob("*.*")}
    assert record["files"].keys() == on_disk - {"run.json"}


def test_a_unit_is_done_when_its_files_are_as_they_were_written(finished, config):
    again = open_run(finished.root, config, overwrite=False)
    (learner,), (observer,) = again.units("learner"), again.units("observer")
    assert again.is_done(learner)
    assert again.is_done(observer)
    assert not again.is_done(learner, transitions=True)
    path = observer.folder / "rewards.npz"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert not again.is_done(observer)
    (learner.folder / "ground_truth.npz").unlink()
    assert not again.is_done(learner)


def test_another_run_is_rejected_and_both_values_are_named(finished):
    asked = from_mapping({**SMALL, "iterations": 4})
    words = r"iterations is 3 in the folder, but 4 was requested.*--overwrite"
    with pytest.raises(ValueError, match=words):
        open_run(finished.root, asked, overwrite=False)


def test_starting_afresh_removes_the_run_and_nothing_else(finished):
    (finished.root / "notes.txt").write_text("mine")
    (finished.root / "figures").mkdir()
    (finished.root / "figures" / "trend.png").write_text("figure")
    finished.add_files([finished.root / "figures" / "trend.png"])
    asked = from_mapping({**SMALL, "iterations": 4, "reward_families": ["heterogeneous"]})
    folder = open_run(finished.root, asked, overwrite=True)
    assert (finished.root / "homogeneous" / "seed_0" / "fake" / "trace.npz").exists()
    folder.begin(check_parts(asked))
    left = {p.relative_to(finished.root).as_posix() for p in finished.root.rglob("*")}
    assert left == {"notes.txt", "config.yaml", "run.json"}
    assert open_run(finished.root, asked, overwrite=False).config == asked


def test_other_versions_are_remembered(finished, config):
    path = finished.root / "run.json"
    record = read_record(finished.root)
    record["versions"]["numpy"] = "0.1"
    write_record(finished.root, record)
    again = open_run(finished.root, config, overwrite=False)
    again.begin(check_parts(config))
    record = json.loads(path.read_text())
    assert [versions["numpy"] for versions in record["earlier_versions"]] == ["0.1"]
    assert open_run(finished.root, config, overwrite=False).earlier_versions == [
        *record["earlier_versions"]
    ]


def test_a_unit_appears_whole_or_not_at_all(tmp_path, config, monkeypatch):
    folder = open_run(tmp_path / "run", config, overwrite=False)
    folder.begin(check_parts(config))
    (learner,) = folder.units("learner")
    folder.add(run_unit(learner))
    (observer,) = folder.units("observer")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("malfl_algos.experiments.jobs.write_json", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_unit(observer)
    assert os.listdir(observer.folder.parent) == ["fake"]
