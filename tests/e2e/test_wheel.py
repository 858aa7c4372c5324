"""The built wheel alone, outside the checkout, is enough to reproduce the paper."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The wheel's files, unpacked into a separate folder.

    The wheel is built from a copy of the checkout in which an older module was built before.
    """
    place = tmp_path_factory.mktemp("wheel")
    left_out = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "results", "tests")
    shutil.copytree(ROOT, place / "source", ignore=left_out)
    stale = place / "source" / "build" / "lib" / "malfl_algos" / "removed.py"
    stale.parent.mkdir(parents=True)
    stale.touch()
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", place / "dist", place / "source"],
        check=True,
        capture_output=True,
    )
    (wheel,) = (place / "dist").glob("malfl_env-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place / "site")
    return place / "site"


def run(unpacked, folder, *arguments):
    return subprocess.run(
        [sys.executable, "-P", *arguments]
        if sys.version_info >= (3, 11)
        else [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_holds_the_packages_and_nothing_else(unpacked):
    top = sorted(path.name for path in unpacked.iterdir())
    assert [name for name in top if not name.endswith(".dist-info")] == ["malfl_algos", "malfl_env"]
    (info,) = unpacked.glob("*.dist-info")
    assert (info / "licenses" / "LICENSE").read_text().startswith("MIT License")
    for package in ("malfl_algos", "malfl_env"):
        assert (unpacked / package / "py.typed").exists()
        sources = {path.relative_to(ROOT) for path in (ROOT / package).rglob("*.py")}
        assert sources == {
            path.relative_to(unpacked) for path in (unpacked / package).rglob("*.py")
        }


def test_metadata_agree_with_the_contract(unpacked):
    (info,) = unpacked.glob("*.dist-info")
    lines = (info / "METADATA").read_text().splitlines()
    required = {line.split(":", 1)[1].strip() for line in lines if line.startswith("Requires-Dist")}
    core = {entry for entry in required if "extra ==" not in entry}
    assert core == {"numpy>=1.26", "gymnasium<2,>=1.0", "pettingzoo<2,>=1.24.3"}
    extras = {line.split(": ")[1] for line in lines if line.startswith("Provides-Extra")}
    users = {"algos", "torch", "sb3", "dask", "ray", "data", "arviz", "all"}
    assert extras == users | {"bench", "test", "docs"}
    assert "License-Expression: MIT" in lines or "License: MIT" in lines
    entries = ConfigParser()
    entries.read(info / "entry_points.txt")
    assert entries["console_scripts"]["malfl"] == "malfl_algos.cli.main:main"
    assert set(entries["malfl.learners"]) == {"ma-spi", "ma-spi-network", "q-learning"}
    observers = {"ma-lfl", "ma-lfl-own-action", "ma-lfl-state", "ma-lfl-faithful"}
    assert observers | {"ma-lfl-bellman", "ma-lfl-replay"} <= set(entries["malfl.observers"])


def test_it_reproduces_outside_the_checkout(unpacked, tmp_path):
    where = run(unpacked, tmp_path, "-c", "import malfl_algos; print(malfl_algos.__file__)")
    assert where.stdout.startswith(str(unpacked))
    small = ("--fast", "--iterations", "2", "--reward-families", "homogeneous")
    done = run(unpacked, tmp_path, "-m", "malfl_algos", "reproduce", *small, "--output-dir", "out")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert {row["observer"] for row in summary["results"]} == {
        "ma-lfl",
        "ma-lfl-own-action",
        "ma-lfl-state",
        "ma-lfl-faithful",
    }
    assert (tmp_path / "out" / "figures" / "correlation.png").stat().st_size > 10_000
