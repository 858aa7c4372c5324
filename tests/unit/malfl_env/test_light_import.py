"""Importing the environment must stay cheap: it must not import heavy packages."""

from __future__ import annotations

from interpreter import printed

HEAVY = {"torch", "scipy", "numba", "matplotlib", "pandas", "pygame", "malfl_algos"}


def test_import_loads_nothing_heavy() -> None:
    assert printed("import sys, malfl_env", f"print({HEAVY!r} & set(sys.modules))") == "set()"


def test_using_it_loads_nothing_heavy() -> None:
    loaded = printed(
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
    told = printed(
        "import importlib, warnings, malfl_env",
        "warnings.simplefilter('error')",
        "importlib.reload(malfl_env)",
        "print(callable(malfl_env.markov_game), callable(malfl_env.testing.check_parallel_env))",
    )
    assert told == "True True"
