"""Whether results depend on PYTHONHASHSEED, which only new processes can tell.

Sets and dicts of strings are read in another order under another hash seed; an environment that
loops over a set of agent names plays differently in every process.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, cast

from malfl_env.errors import InputError
from malfl_env.testing.plan import Plan
from malfl_env.testing.protocol import Environment, fail
from malfl_env.testing.run import Run, episode_fingerprints, opened

__all__ = ["check_hash_seeds"]


def check_hash_seeds(plan: Plan, hash_seeds: Sequence[int]) -> None:
    """Play one episode in one process per hash seed and compare.

    Raises:
        InputError: where the factory cannot be found by module and qualified name, so that no other
            process can make the environment.
        AssertionError: where two hash seeds give different episodes.
    """
    address = _address(plan.factory)
    task = json.dumps([*address, plan.seeds[0], plan.n_steps])
    episodes = [_episode_elsewhere(task, hash_seed) for hash_seed in hash_seeds]
    for hash_seed, episode in zip(hash_seeds, episodes, strict=True):
        if episode != episodes[0]:
            both = zip(episode, episodes[0], strict=False)
            step = next((i for i, (one, other) in enumerate(both) if one != other), len(episode))
            detail = f"hash seeds {hash_seeds[0]} and {hash_seed} give different episodes"
            fail("PYTHONHASHSEED changes the results", f"step {step}, seed {plan.seeds[0]}", detail)


def _address(factory: Callable[[], Environment]) -> tuple[str, str]:
    module = getattr(factory, "__module__", None)
    name = getattr(factory, "__qualname__", None)
    try:
        if module in (None, "__main__") or name is None or _found(module, name) is not factory:
            raise AttributeError
    except (ImportError, AttributeError):
        raise InputError(
            f"hash_seeds needs a factory that another process can import as module.name, got"
            f" {factory!r}; define it at the top of an importable module"
        ) from None
    return module, name


def _found(module: str, name: str) -> Callable[[], Environment]:
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return cast("Callable[[], Environment]", found)


def _episode_elsewhere(task: str, hash_seed: int) -> list[str]:
    variables = {
        **os.environ,
        "PYTHONHASHSEED": str(hash_seed),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    command = [sys.executable, "-c", f"import {__name__} as task; task.play(*{json.loads(task)})"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        fail("episode in another process failed", f"PYTHONHASHSEED={hash_seed}", reason)
    episode: list[str] = json.loads(done.stdout.splitlines()[-1])
    return episode


def play(module: str, name: str, seed: int, n_steps: int) -> None:
    """Print the fingerprints of an episode as one JSON line: the body of each new process."""
    with opened(_found(module, name)) as (env,):
        episode = episode_fingerprints(
            Run(env, infos=False), seed=seed, n_steps=n_steps, action_seed=seed
        )
    print(json.dumps(episode))
