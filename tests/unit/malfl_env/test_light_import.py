"""Importing the environment must stay cheap: nothing heavy comes with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HEAVY = {"torch", "scipy", "numba", "matplotlib", "pandas", "pygame", "malfl_algos"}


def run(*lines: str) -> str:
    """What a new interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_import_loads_nothing_heavy() -> None:
    assert run("import sys, malfl_env", f"print({HEAVY!r} & set(sys.modules))") == "set()"


def test_using_it_loads_nothing_heavy() -> None:
    loaded = run(
        "import sys, malfl_env",
        "env = malfl_env.grid_world_v0.parallel_env(render_mode='rgb_array')",
        "env.reset(seed=0)",
        "env.render()",
        "malfl_env.markov_game(env)",
        "malfl_env.single_agent_env().reset()",
        "malfl_env.grid_world_v0.env().reset()",
        f"print({HEAVY!r} & set(sys.modules))",
    )
    assert loaded == "set()"


def test_reloading_warns_of_nothing() -> None:
    printed = run(
        "import importlib, warnings, malfl_env",
        "warnings.simplefilter('error')",
        "importlib.reload(malfl_env)",
        "print(callable(malfl_env.markov_game), callable(malfl_env.testing.check_parallel_env))",
    )
    assert printed == "True True"
