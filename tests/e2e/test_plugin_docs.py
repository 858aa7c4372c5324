"""The commands of docs/how-to/plugins.md: the template is copied, renamed, installed and used."""

from __future__ import annotations

import json
import os
import re
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from malfl_algos.experiments.config import from_mapping

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "plugins.md").read_text(encoding="utf-8")
LEFT_OUT = shutil.ignore_patterns(
    ".*", "build", "dist", "*.egg-info", "results", "out", "__pycache__"
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """What the page's commands print, and the folder in which they were run.

    The new environment sees the packages of this one, so that only ours are installed into it. The
    experiment has two stages, so that it takes seconds.
    """
    folder = tmp_path_factory.mktemp("newcomer")
    shutil.copytree(ROOT, folder / "malfl-env", ignore=LEFT_OUT)
    (borrowed,) = site.getsitepackages()[:1]
    # not into the environments in which pip builds wheels: those have their own setuptools
    borrow = (
        "import os, site; any(key.endswith('_BUILD_BACKEND') for key in os.environ) "
        f"or site.addsitedir({borrowed!r})"
    )
    made = "python3 -m venv venv\n"
    script = "".join(blocks("sh"))
    assert made in script
    script = script.replace(
        made,
        f'{made}echo "{borrow}" > venv/lib/python3.{sys.version_info[1]}/site-packages/b.pth\n',
    )
    run = "malfl reproduce --fast "
    assert run in script
    script = script.replace(run, f"{run}--iterations 2 ")
    python = "".join(blocks("python"))
    assert "check_learner" in python
    script += f"python - <<'END'\n{python}END\n"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", script],
        cwd=folder / "malfl-env",
        env={
            **{key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
            "PATH": path,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, folder / "malfl-mine"


@pytest.mark.slow
def test_the_copy_is_among_the_plugins_and_sound(followed):
    lines = [" ".join(line.split()) for line in followed[0].splitlines()]
    assert "learner mine-npg malfl-mine 0.1.0 malfl_mine:MineNpg" in lines
    assert "observer mine-first-step malfl-mine 0.1.0 malfl_mine:MineFirstStep" in lines
    assert "ok learner 'mine-npg' of distribution 'malfl-mine' 0.1.0" in lines
    assert not [line for line in lines if line.startswith("broken")]
    assert not [line for line in lines if line.startswith("note") and "mine" in line]


@pytest.mark.slow
def test_its_options_are_listed(followed):
    assert "step_size: a finite number (default: 0.3)" in followed[0]


@pytest.mark.slow
def test_its_tests_pass(followed):
    assert re.search(r"\b4 passed", followed[0])


@pytest.mark.slow
def test_it_takes_part_in_a_reproduction(followed):
    results = followed[1] / "results"
    summary = json.loads((results / "summary.json").read_text())
    assert {row["observer"] for row in summary["results"]} == {"mine-first-step", "ma-lfl-bellman"}
    assert (results / "homogeneous" / "seed_0" / "mine-npg" / "trace.npz").exists()
    used = json.loads((results / "run.json").read_text())["plugins"]
    assert [plugin["distribution"] for plugin in used] == ["malfl-mine", "malfl-mine", "malfl-env"]


@pytest.mark.slow
def test_nothing_of_the_old_name_is_left(followed):
    files = [path for pattern in ("*.*", "tests/*.py") for path in followed[1].glob(pattern)]
    texts = [p.read_text() for p in files if p.suffix in (".py", ".toml", ".md")]
    assert len(texts) == 4
    for text in texts:
        assert not re.search("malfl.example|example-|Example", text)


def test_the_configuration_shown_is_one():
    (shown,) = blocks("yaml")
    config = from_mapping(yaml.safe_load(shown))
    assert config.learner.options == {"step_size": 1.0}
    assert [observer.label for observer in config.observers] == ["mine-first-step", "smoother"]
