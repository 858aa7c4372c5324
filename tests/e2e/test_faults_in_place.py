"""Things in the place of a run's files, and a user's own files, are named, mended or kept."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from malfl_algos.cli.main import main
from malfl_algos.experiments.config import load_config
from malfl_algos.experiments.engine import reproduce
from malfl_algos.experiments.verification import verify

pytestmark = pytest.mark.usefixtures("fakes_in_an_empty_folder")
RUN = ["reproduce", "--learner", "fake", "--observers", "counting", "--iterations", "3"]
RUN += ["--reward-families", "homogeneous", "--output-dir", "out", "--jobs", "1", "--seeds", "0"]
UNIT = Path("out/homogeneous/seed_0/fake")
FILES = ["summary.json", "config.yaml", "trend.csv", "homogeneous/seed_0/fake/trace.npz"]
FILES += ["homogeneous/seed_0/counting/rewards.npz"]


def _in_the_way(path: Path, kind: str) -> None:
    if kind == "folder":
        path.mkdir()
        (path / "mine").write_text("notes")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "dangling link":
        path.symlink_to("nowhere")
    else:
        path.write_text("something else")


@pytest.mark.parametrize("kind", ["folder", "fifo", "dangling link"])
@pytest.mark.parametrize("name", FILES)
def test_what_is_in_the_place_of_a_file_is_named_and_mended(name: str, kind: str) -> None:
    assert main(RUN) == 0
    path = Path("out", name)
    before = path.read_bytes()
    path.unlink()
    _in_the_way(path, kind)
    other = Path("out/cross_correlation.csv")
    other.write_bytes(other.read_bytes() + b"x")
    words = {"folder": "a folder is in its place", "fifo": "it is not a regular file"}
    faults = verify(Path("out")).faults
    assert f"{name}: {words.get(kind, 'a link that leads nowhere is in its place')}" in faults
    assert any(fault.startswith("cross_correlation.csv: damaged") for fault in faults)
    assert main(RUN) == 0
    assert verify(Path("out")).faults == ()
    assert path.read_bytes() == before
    kept = [own.read_text() for own in Path("out").rglob("mine")]
    assert kept == (["notes"] if kind == "folder" else [])


@pytest.mark.parametrize("name", ["homogeneous", "homogeneous/seed_0", "homogeneous/seed_0/fake"])
def test_a_file_in_the_place_of_a_folder_is_named_and_mended(name: str) -> None:
    assert main(RUN) == 0
    shutil.rmtree(Path("out", name))
    _in_the_way(Path("out", name), "file")
    assert any("missing" in fault for fault in verify(Path("out")).faults)
    assert main(RUN) == 0
    assert verify(Path("out")).faults == ()
    (moved,) = Path("out", name).parent.glob("*.moved-*")
    assert moved.read_text() == "something else"


def test_own_files_in_the_folder_of_a_unit_are_kept_when_it_is_done_again() -> None:
    """They were named as faults, and deleted with the unit."""
    assert main(RUN) == 0
    own = {"notes.txt": "mine", "more/deep.txt": "mine", ".hidden": "mine"}
    for name, text in own.items():
        (UNIT / name).parent.mkdir(exist_ok=True)
        (UNIT / name).write_text(text)
    assert verify(Path("out")).faults == ()
    (UNIT / "trace.npz").write_bytes(b"damaged")
    assert main(RUN) == 0
    assert verify(Path("out")).faults == ()
    assert {name: (UNIT / name).read_text() for name in own} == own


def test_a_file_of_another_run_in_a_unit_is_named_and_removed() -> None:
    """A posterior that the unit did not write would be scored with its rewards."""
    assert main(RUN) == 0
    stray = Path("out/homogeneous/seed_0/counting/targets.npz")
    shutil.copy(UNIT / "trace.npz", stray)
    name = stray.relative_to("out").as_posix()
    assert verify(Path("out")).faults == (f"{name}: not in run.json",)
    assert main(RUN) == 0
    assert not stray.exists()
    assert verify(Path("out")).faults == ()


def test_a_sound_trace_of_another_seed_is_mended(capsys: pytest.CaptureFixture[str]) -> None:
    """The learner was said not to repeat itself, again and again."""
    argv = [*RUN, "1"]
    assert main(argv) == 0
    before = (UNIT / "trace.npz").read_bytes()
    shutil.copy("out/homogeneous/seed_1/fake/trace.npz", UNIT / "trace.npz")
    assert "damaged" in verify(Path("out")).faults[0]
    assert main(argv) == 0
    assert (UNIT / "trace.npz").read_bytes() == before
    assert verify(Path("out")).faults == ()


def test_figures_drawn_before_a_kill_are_not_drawn_again() -> None:
    assert main(RUN) == 0
    config = load_config("out/config.yaml")
    asked: list[set[str]] = []

    def draw(root, *, skip, drawn, jobs=1):
        """Draws three figures, and is interrupted in its first two calls."""
        asked.append(set(skip))
        paths = []
        for name in ("a", "b", "c"):
            path = root / "figures" / f"{name}.png"
            if name not in skip:
                if len(asked) < 3 and paths:
                    raise KeyboardInterrupt
                path.parent.mkdir(exist_ok=True)
                path.write_text(name)
                drawn(path)
                paths.append(path)
        return paths

    record = json.loads(Path("out/run.json").read_text())
    assert record["parts"]["figures"]["state"] == "done"
    Path("out/summary.json").unlink()
    Path("out/homogeneous/seed_0/fake/trace.npz").unlink()
    asked_config = config.__class__(**{**vars(config), "seeds": (0, 1)})
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            reproduce(asked_config, "out", jobs=1, draw=draw, log=lambda line: None)
        assert any("figures: not all are made" in f for f in verify(Path("out")).faults)
    reproduce(asked_config, "out", jobs=1, draw=draw, log=lambda line: None)
    assert asked == [set(), {"a"}, {"a", "b"}]
    assert verify(Path("out")).faults == ()
