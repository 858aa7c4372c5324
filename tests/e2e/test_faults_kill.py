"""Runs that are killed without warning, at any moment, and their folders."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from nursery import FAKES, Nursery, content, stamps

from malfl_algos.experiments.records import read_record

N_KILLS = 32
GAME = {"game": {"size": 2}, "iterations": 3, "reward_families": ["homogeneous"], "seeds": [0]}
REAL = {
    **GAME,
    "episodes": 20,
    "episode_length": 20,
    "seeds": [0, 1],
    "observers": [
        "ma-lfl-state",
        {"name": "ma-lfl-bellman", "options": {"learner": "exact", "prior": "iid", "passes": 1}},
    ],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("kills")
    (place / "game.yaml").write_text(yaml.safe_dump(GAME))
    (place / "real.yaml").write_text(yaml.safe_dump(REAL))
    return place


@pytest.fixture(scope="module")
def nursery(folder: Path) -> Iterator[Nursery]:
    argv = ["reproduce", "--config", str(folder / "game.yaml"), *FAKES]
    with Nursery(folder, [*argv, "--output-dir", str(folder / "warm")], figures=False) as made:
        yield made


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed_a_run_ends_as_if_undisturbed(tmp_path, folder):
    argv = ["reproduce", "--config", str(folder / "real.yaml"), "--jobs", "1", "--output-dir"]
    draw = np.random.default_rng(6).uniform
    n_kills = 0
    with Nursery(tmp_path, [*argv, str(tmp_path / "warm")], figures=True) as nursery:
        undisturbed = nursery.run(*argv, str(tmp_path / "undisturbed"))
        expected = content(tmp_path / "undisturbed")
        assert undisturbed["status"] == 0
        assert len([name for name in expected if name.endswith(".png")]) == 12
        for chain in range(4 * N_KILLS):
            root = tmp_path / f"run_{chain}"
            left = undisturbed["seconds"]
            while left > 0.1 * undisturbed["seconds"]:
                moment = draw(0.0, left)
                done = _done(root)
                ended = nursery.run(*argv, str(root), kill_after=moment)
                assert {name: stamps(root)[name] for name in done} == done
                if ended["status"] == 0:
                    break
                assert ended["status"] == -9
                n_kills += 1
                left -= moment
                checked = nursery.run("verify", str(root))
                assert checked["status"] in (0, 1, 2)
                assert "Traceback" not in checked["output"]
            done = _done(root)
            assert nursery.run(*argv, str(root))["status"] == 0
            assert {name: stamps(root)[name] for name in done} == done
            assert content(root) == expected
            assert nursery.run("verify", str(root))["status"] == 0
            shutil.rmtree(root)
            if n_kills >= N_KILLS:
                return
    raise AssertionError(f"only {n_kills} of {N_KILLS} kills met a run")


@pytest.mark.parametrize(
    ("before", "further", "every"),
    [
        ((), (), 9),
        pytest.param((), (), 1, marks=pytest.mark.slow),
        # what another run left is cleared away
        pytest.param(
            ("--iterations", "4", "--seeds", "1", "2"), ("--overwrite",), 2, marks=pytest.mark.slow
        ),
        # the trace gives way to one with transitions
        pytest.param((), ("--observers", "counting", "needy"), 2, marks=pytest.mark.slow),
    ],
)
def test_killed_before_any_change_to_the_disk_and_resumed(
    tmp_path, folder, nursery, before, further, every
):
    argv = ["reproduce", "--config", str(folder / "game.yaml"), *FAKES]
    start, root = tmp_path / "start", tmp_path / "run"
    if further:
        assert nursery.run(*argv, *before, "--output-dir", str(start))["status"] == 0
    else:
        start.mkdir()
    argv += [*further, "--output-dir"]
    shutil.copytree(start, tmp_path / "undisturbed")
    undisturbed = nursery.run(*argv, str(tmp_path / "undisturbed"))
    assert undisturbed["status"] == 0
    assert undisturbed["changes"] > 30
    expected = content(tmp_path / "undisturbed")
    for change in range(1, undisturbed["changes"] + 1, every):
        shutil.copytree(start, root)
        assert nursery.run(*argv, str(root), die_at=change)["status"] == -9
        assert nursery.run(*argv, str(root))["status"] == 0
        assert content(root) == expected, f"killed before change {change}"
        assert nursery.run("verify", str(root))["output"].startswith(f"{root}: no errors found")
        shutil.rmtree(root)


def test_a_lock_of_the_dead_is_taken_over_with_a_note(tmp_path, folder, nursery):
    argv = ["reproduce", "--config", str(folder / "game.yaml"), *FAKES]
    argv += ["--output-dir", str(tmp_path / "run")]
    assert nursery.run(*argv, die_at=30)["status"] == -9
    holder = json.loads((tmp_path / "run" / "run.lock").read_text())
    checked = nursery.run("verify", str(tmp_path / "run"))
    gone = f"process {holder['pid']} on host {holder['host']}, which is gone"
    assert f"run.lock: left by {gone}" in checked["output"]
    resumed = nursery.run(*argv)
    assert resumed["status"] == 0
    assert f"took over the lock of {gone}" in resumed["output"]
    assert not (tmp_path / "run" / "run.lock").exists()


def _done(root: Path) -> dict[str, tuple[int, int]]:
    """The stamps of the files of units that are done, as the record says."""
    if not (root / "run.json").exists():
        return {}
    parts = read_record(root)["parts"]
    done = tuple(f"{name}/" for name, part in parts.items() if part["state"] == "done")
    return {name: stamp for name, stamp in stamps(root).items() if name.startswith(done)}
