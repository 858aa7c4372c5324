"""Check that an observer does not read the ground truth.

An observer may read its arguments only. Ground truth is in the files of a run, in the memory of the
process that scores, and in a game that still has its rewards. So the observer gets the same
arguments several times, and only the ground truth around it differs: a different result shows that
the observer read it. Files of ground truth are also watched: the observer must not open one.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from malfl_algos.ground_truth import GroundTruth
from malfl_algos.testing.games import Case
from malfl_algos.testing.subject import ERRORS, Subject, evaluated, guarded
from malfl_algos.trace import LearningTrace, Stage
from malfl_env.testing.protocol import fail
from malfl_env.testing.values import difference

__all__ = ["check_peeking"]

_REWARD_NAMES = ("reward", "rewards", "true_rewards")
_POLICY_NAMES = ("joint_policy", "joint_policies", "policy", "policies", "true_policies")
_TRUTH_NAMES = ("truth", "ground_truth")


def check_peeking(subject: Subject, case: Case, honest: Any) -> None:
    """Compare results beside different ground truths.

    Args:
        subject: the observer.
        case: its arguments, the same each time.
        honest: its result without any ground truth to read, in the form of `evaluated`.
    """
    for seed in (1, 2):
        gap = difference(honest, _in_world(subject, case, seed))
        if gap:
            detail = f"ground truth in files or memory changes the result: {gap}"
            fail("reads what it may not see", f"{case.name}, files and memory", detail)
        gap = difference(honest, _with_rewards(subject, case, seed))
        if gap:
            detail = f"the rewards of the game change the result: {gap}"
            fail("reads what it may not see", f"{case.name}, game.rewards", detail)


def _truth(case: Case, seed: int) -> GroundTruth:
    """Random rewards and policies of the right shapes."""
    rng = np.random.default_rng(seed)
    rewards = {agent: rng.standard_normal(case.game.n_states) for agent in case.game.agents}
    policies = {
        agent: rng.dirichlet(np.ones(own.shape[-1]), size=own.shape[:-1])
        for agent, own in case.policies.items()
    }
    return GroundTruth(rewards, policies)


def _in_world(subject: Subject, case: Case, seed: int) -> Any:
    """The result with ground truth on disk, in the caller's variables and in attributes."""
    truth = _truth(case, seed)
    # an observer could find these variables on the stack
    rewards, policies = truth.rewards, truth.joint_policies
    true_game = case.game.with_rewards(list(rewards.values()))
    baited = replace(case, trace=_baited(case.trace, truth))
    where = f"{case.name}, beside a run folder"
    with TemporaryDirectory() as folder, _run_folder(Path(folder), case, truth) as opened:
        observer = subject.build()
        result = guarded(lambda: observer.recover(**baited.arguments()), where)
        if opened:
            names = ", ".join(sorted({os.path.basename(path) for path in opened}))
            fail("reads what it may not see", where, f"it opened {names}")
    del rewards, policies, true_game
    return evaluated(result, case)


def _with_rewards(subject: Subject, case: Case, seed: int) -> Any:
    """The result for a game with rewards; if it is rejected, the result without them."""
    game = case.game.with_rewards(list(_truth(case, seed).rewards.values()))
    observer = subject.build()
    try:
        return evaluated(observer.recover(**{**case.arguments(), "game": game}), case)
    except ERRORS:  # an observer may reject a game with rewards
        return evaluated(observer.recover(**case.arguments()), case)


def _baited(trace: LearningTrace, truth: GroundTruth) -> LearningTrace:
    """The same trace with ground truth in further attributes."""
    stages = []
    for number, stage in enumerate(trace.stages):
        policies = {agent: own[number] for agent, own in truth.joint_policies.items()}
        stages.append(replace(stage))
        _bait(stages[-1], truth, policies)
    baited = LearningTrace(tuple(stages))
    _bait(baited, truth, truth.joint_policies)
    return baited


def _bait(value: Stage | LearningTrace, truth: GroundTruth, policies: Any) -> None:
    for names, bait in (
        (_REWARD_NAMES, truth.rewards),
        (_POLICY_NAMES, policies),
        (_TRUTH_NAMES, truth),
    ):
        for name in names:
            object.__setattr__(value, name, bait)


@contextmanager
def _run_folder(folder: Path, case: Case, truth: GroundTruth) -> Iterator[list[str]]:
    """Work in a run folder with ground truth; yields the paths of its opened files."""
    for place in (folder, folder / "homogeneous" / "seed_0" / "ma-spi"):
        place.mkdir(parents=True, exist_ok=True)
        truth.save(place / "ground_truth.npz")
        case.trace.save(place / "trace.npz")
    tables = [reward.tolist() for reward in truth.rewards.values()]
    config = {"families": {"mine": tables}, "reward_families": ["mine"]}
    for name in ("config.yaml", "run.json", "summary.json"):
        (folder / name).write_text(json.dumps(config), encoding="utf-8")
    before, arguments = os.getcwd(), sys.argv
    os.chdir(folder)
    sys.argv = ["malfl", "reproduce", "--config", "config.yaml", "--output-dir", str(folder)]
    try:
        files = {os.path.realpath(path) for path in folder.rglob("*") if path.is_file()}
        with _watching(files) as opened:
            yield opened
    finally:
        sys.argv = arguments
        os.chdir(before)


_watched: set[str] = set()
_opened: list[str] = []
_hooked: list[bool] = []


@contextmanager
def _watching(files: set[str]) -> Iterator[list[str]]:
    """Record which of these files are opened in this process."""
    if not _hooked:  # a hook cannot be removed; it does nothing while no file is watched
        sys.addaudithook(_audit)
        _hooked.append(True)
    _opened.clear()
    _watched.update(files)
    try:
        yield _opened
    finally:
        _watched.clear()


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _watched and isinstance(arguments[0], (str, bytes, os.PathLike)):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if path in _watched:
            _opened.append(path)
