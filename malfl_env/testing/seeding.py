"""Checks of seeds: a seed fixes all later episodes, and each seed fixes other ones.

`check_hash_seeds` tests whether results depend on PYTHONHASHSEED, for which it starts new
processes. Sets and dicts of strings have another order under another hash seed, so an environment
that loops over a set of agent names plays differently in every process.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any, cast

from malfl_env.errors import InputError
from malfl_env.testing.protocol import Environment, Plan, fail
from malfl_env.testing.run import Run, episode_fingerprints, in_step, moment_difference, opened

__all__ = ["check_hash_seeds", "check_one_seed", "check_streams"]

Episode = tuple[str, ...]

# Below this probability a repetition counts as an error.
COINCIDENCE = 1e-6
# An environment that has the same episode for this many seeds counts as deterministic.
ENOUGH_TO_LOOK_DETERMINISTIC = 12
MOST_SEEDS = 64


def check_one_seed(plan: Plan) -> None:
    """Check that two new environments with one seed agree in every moment of every episode.

    The first episode of the first seed runs to its end (or to `plan.episode_limit`). Then a used
    environment must agree with a new one after both are seeded.
    """
    for index, seed in enumerate(plan.seeds):
        with opened(plan.factory, 2) as envs:
            left, right = (Run(env, infos=plan.infos) for env in envs)
            for episode in range(plan.n_episodes):
                pairs = in_step(
                    left,
                    right,
                    seed=seed if episode == 0 else None,
                    n_steps=plan.n_steps if index or episode else plan.episode_limit,
                    action_seed=seed + episode,
                )
                for one, other in pairs:
                    gap = moment_difference(one, other, infos=plan.infos)
                    if gap:
                        _fail_reproduction(plan, seed, episode, one.step, gap)
        _check_used(plan, left_seed=seed, right_seed=plan.seeds[index - 1])


def _fail_reproduction(plan: Plan, seed: int, episode: int, step: int, gap: str) -> None:
    where = f"step {step} of episode {episode + 1}, seed {seed}, two new environments"
    if _agree_one_after_the_other(plan, seed):
        fail("environments share state", where, f"they differ only when run side by side; {gap}")
    if episode > 0:
        fail("reset() without a seed is not reproducible", where, gap)
    if step == 0:
        fail("reset observations differ for one seed", where, gap)
    if step == 1:
        fail("seed ignored", where, gap)
    plural = "s" * (step > 2)
    fail(f"seed holds for {step - 1} step{plural} only", where, gap)


def _agree_one_after_the_other(plan: Plan, seed: int) -> bool:
    """Whether new environments agree when each is closed before the next one is made."""
    histories = []
    # Four, because two may agree by accident if the noise is small.
    for _ in range(4):
        with opened(plan.factory) as (env,):
            run = Run(env, infos=plan.infos)
            histories.append(
                [
                    episode_fingerprints(
                        run,
                        seed=None if episode else seed,
                        n_steps=plan.n_steps if episode else plan.episode_limit,
                        action_seed=seed + episode,
                        infos=plan.infos,
                    )
                    for episode in range(plan.n_episodes)
                ]
            )
    return all(history == histories[0] for history in histories)


def _check_used(plan: Plan, *, left_seed: int, right_seed: int) -> None:
    """Check that a used environment agrees with a new one after `reset(seed)`."""
    with opened(plan.factory, 2) as envs:
        used, new = (Run(env, infos=plan.infos) for env in envs)
        # Stop in mid-episode: a reset must work there, too.
        episode_fingerprints(used, seed=right_seed, n_steps=plan.n_steps // 2, action_seed=1)
        for one, other in in_step(used, new, seed=left_seed, n_steps=plan.n_steps, action_seed=2):
            gap = moment_difference(one, other, infos=plan.infos)
            if gap:
                where = f"step {one.step} after reset(seed={left_seed}) on a used environment"
                fail("used environment cannot be re-seeded", where, gap)


def check_streams(plan: Plan) -> None:
    """Check that different seeds give different episodes, and so do resets after one seed.

    Every episode is played with the same actions, so that episodes differ by their random numbers
    only. Each seed gives a first episode, after `reset(seed)`, and a second one, after `reset()`.
    In a correct environment all are independent draws from one distribution. If they never differ,
    the environment is deterministic, which is no error. Otherwise a repetition is an error as soon
    as its probability, estimated from how often the other episodes coincide, is below 1e-6. Until
    then more seeds are tried, at most 64.
    """
    firsts: list[Episode] = []
    seconds: list[Episode] = []
    with opened(plan.factory) as (env,):
        run = Run(env, infos=plan.infos)
        for seed in range(MOST_SEEDS):
            firsts.append(episode_fingerprints(run, seed=seed, n_steps=plan.n_steps, action_seed=0))
            seconds.append(
                episode_fingerprints(run, seed=None, n_steps=plan.n_steps, action_seed=0)
            )
            if _passed(plan, firsts, seconds):
                return


def _passed(plan: Plan, firsts: list[Episode], seconds: list[Episode]) -> bool:
    """Whether these episodes suffice to accept the environment; raises for an error."""
    where = f"first two episodes of seeds 0 to {len(firsts) - 1}, same actions"
    same_firsts, same_seconds = len(set(firsts)) == 1, len(set(seconds)) == 1
    if plan.stochastic is False:
        if not same_firsts:
            fail("declared free of chance", where, "two seeds give different episodes")
        return len(firsts) >= ENOUGH_TO_LOOK_DETERMINISTIC
    if not (same_firsts or same_seconds or firsts == seconds):
        return True
    if same_firsts:
        enough = len(firsts) >= ENOUGH_TO_LOOK_DETERMINISTIC
        return enough and _free_of_chance(plan, firsts, seconds, where)
    if _chance_to_coincide(firsts) < COINCIDENCE:
        if firsts == seconds:
            fail("reset() repeats the seeded episode", where, "the stream starts over each time")
        if same_seconds:
            fail("reset() returns to a fixed stream", where, "all second episodes are the same")
    return False


def _free_of_chance(plan: Plan, firsts: list[Episode], seconds: list[Episode], where: str) -> bool:
    """Whether equal first episodes mean that nothing is random; raises if they are an error."""
    if plan.stochastic:
        fail("every seed gives the same episode", where, "it was declared stochastic")
    if firsts == seconds:
        return True
    if len(set(seconds)) == 1 or _chance_to_coincide(seconds) < COINCIDENCE:
        detail = (
            "yet reset() without a seed gives another: seeds do not reach the generator"
            " (stochastic=False if this is meant)"
        )
        fail("every seed gives the same episode", where, detail)
    return False


def _chance_to_coincide(episodes: list[Episode]) -> float:
    """A cautious estimate of the probability that all these independent episodes coincide."""
    pairs = list(combinations(episodes, 2))
    equal = sum(one == other for one, other in pairs)
    rate: float = (equal + 1) / (len(pairs) + 1)
    return rate ** (len(episodes) - 1)


def check_hash_seeds(plan: Plan, hash_seeds: Sequence[int]) -> None:
    """Play one episode in a new process per hash seed and compare the episodes.

    Raises:
        InputError: if the factory cannot be found by module and qualified name, so that no other
            process can make the environment.
        AssertionError: if two hash seeds give different episodes.
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
    """Print the fingerprints of an episode as one JSON line; each new process runs this."""
    with opened(_found(module, name)) as (env,):
        episode = episode_fingerprints(
            Run(env, infos=False), seed=seed, n_steps=n_steps, action_seed=seed
        )
    print(json.dumps(episode))
