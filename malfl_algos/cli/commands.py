"""What the commands of `malfl` do, apart from parsing: they check, call and print."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from malfl_algos.cli.export import export
from malfl_algos.cli.sweep import sweep
from malfl_algos.experiments.cell import learn as run_learner
from malfl_algos.experiments.config import (
    ExperimentConfig,
    PluginConfig,
    load_config,
    merge,
)
from malfl_algos.experiments.engine import reproduce as run_experiment
from malfl_algos.experiments.folder import check_writable
from malfl_algos.experiments.parts import make_learner, make_observer
from malfl_algos.experiments.recovery import Problem, recover, write_recovered
from malfl_algos.experiments.scoring_inputs import judged_rows, read_judged
from malfl_algos.experiments.text import score_text, summary_text
from malfl_algos.experiments.verification import verify as check_folder
from malfl_algos.storage.durable import write_json
from malfl_algos.storage.yaml_files import parse_yaml
from malfl_algos.trace import LearningTrace
from malfl_algos.work.threads import one_blas_thread
from malfl_env.errors import InputError

__all__ = ["COMMANDS", "FAST"]

FAST: Mapping[str, Any] = {"iterations": 4, "episodes": 100, "episode_length": 200, "seeds": [0]}
"""The settings of `--fast`."""


def reproduce(arguments: argparse.Namespace) -> int:
    """Run an experiment and print its tables."""
    base = _config(arguments)
    overrides: dict[str, Any] = dict(FAST) if arguments.fast else {}
    for key in ("reward_families", "iterations", "episodes", "episode_length", "seeds", "seat"):
        if getattr(arguments, key) is not None:
            overrides[key] = getattr(arguments, key)
    if arguments.learner is not None:
        overrides["learner"] = _picked(arguments.learner, [base.learner])
    if arguments.observers is not None:
        overrides["observers"] = [_picked(name, base.observers) for name in arguments.observers]
    config = merge(base, overrides)
    summary = run_experiment(
        config,
        arguments.output_dir,
        jobs=arguments.jobs,
        overwrite=arguments.overwrite,
        log=_log,
    )
    print(summary_text(summary))
    print(f"\nTables: {arguments.output_dir}; pictures: {Path(arguments.output_dir) / 'figures'}")
    return 0


def verify(arguments: argparse.Namespace) -> int:
    """Check a run folder; one line for each fault."""
    verdict = check_folder(Path(arguments.folder))
    print("\n".join((*verdict.notes, *verdict.faults)) or f"{arguments.folder}: nothing is amiss")
    return 1 if verdict.faults else 0


def learn(arguments: argparse.Namespace) -> int:
    """Let one learner learn in one family with one seed."""
    base = _config(arguments)
    learner = _picked(arguments.name or base.learner.name, [base.learner])
    learner["options"] = {**learner["options"], **_options(arguments.option)}
    family = arguments.reward_family or base.reward_families[0]
    overrides: dict[str, Any] = {"learner": learner, "reward_families": [family]}
    if arguments.seed is not None:
        overrides["seeds"] = [arguments.seed]
    for key in ("iterations", "episodes", "episode_length"):
        if getattr(arguments, key) is not None:
            overrides[key] = getattr(arguments, key)
    config = merge(base, overrides)
    seed = config.seeds[0]
    config.markov_game(family)
    make_learner(config, seed=seed, keep_transitions=False)
    folder = _output(arguments, "trace.npz", "ground_truth.npz")
    with one_blas_thread():
        trace, truth = run_learner(config, family=family, seed=seed, keep_transitions=False)
    trace.save(folder / "trace.npz")
    truth.save(folder / "ground_truth.npz")
    print(f"{folder / 'trace.npz'}: {trace.n_stages} stages; {folder / 'ground_truth.npz'}")
    return 0


def recover_rewards(arguments: argparse.Namespace) -> int:
    """Let one observer recover rewards from one trace, seen from outside."""
    config = _config(arguments)
    picked = _picked(arguments.observer, config.observers)
    options = {**picked["options"], **_options(arguments.option)}
    observer = make_observer(
        config, PluginConfig(picked["name"], picked["label"], options), seed=config.seeds[0]
    )
    game = config.markov_game(config.reward_families[0]).without_rewards()
    trace = LearningTrace.load(arguments.trace)
    if (trace.n_states, trace.n_actions) != (game.n_states, game.n_actions):
        raise InputError(
            f"{arguments.trace} is of a game with {trace.n_states} joint states and actions "
            f"{trace.n_actions}, the configuration's has {game.n_states} and {game.n_actions}"
        )
    if arguments.stages is not None:
        if not 1 <= arguments.stages <= trace.n_stages:
            raise InputError(
                f"--stages must be 1..{trace.n_stages}, the stages of {arguments.trace}; "
                f"got {arguments.stages}"
            )
        trace = trace.first(arguments.stages)
    folder = _output(arguments, "rewards.npz", "diagnostics.json")
    problem = Problem(
        None if arguments.estimate_dynamics else game, config.discount, config.temperature
    )
    with one_blas_thread():
        recovered = recover(observer, trace, problem)
    write_recovered(recovered, folder)
    print(f"{folder / 'rewards.npz'}: rewards of {', '.join(recovered[''].rewards)}")
    return 0


def score(arguments: argparse.Namespace) -> int:
    """Score recovered rewards by the true ones, by what the agents went on to do, or both."""
    judged = read_judged(
        Path(arguments.rewards),
        ground_truth=_path(arguments.ground_truth),
        trace=_path(arguments.trace),
        config=_config(arguments),
        config_given=arguments.config is not None,
    )
    try:
        with one_blas_thread():
            rows = judged_rows(judged)
    except (ValueError, IndexError) as fault:
        raise InputError(f"{arguments.rewards} does not fit: {fault}") from fault
    if arguments.json is not None:
        check_writable(Path(arguments.json).parent)
        write_json(Path(arguments.json), rows)
    print(score_text(rows))
    return 0


COMMANDS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "reproduce": reproduce,
    "verify": verify,
    "learn": learn,
    "recover": recover_rewards,
    "score": score,
    "sweep": sweep,
    "export": export,
}


def _config(arguments: argparse.Namespace) -> ExperimentConfig:
    return ExperimentConfig() if arguments.config is None else load_config(arguments.config)


def _path(name: str | None) -> Path | None:
    return None if name is None else Path(name)


def _picked(name: str, defined: Iterable[PluginConfig]) -> dict[str, Any]:
    """The plugin that the configuration has under this label or name, else the bare one."""
    known = list(defined)
    for plugin in (*(p for p in known if p.label == name), *(p for p in known if p.name == name)):
        return asdict(plugin)
    return asdict(PluginConfig(name, name.rpartition(":")[2]))


def _options(pairs: Sequence[str]) -> dict[str, Any]:
    """Options given as KEY=VALUE."""
    options = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not (key and sign):
            raise InputError(f"--option must be KEY=VALUE, got {pair!r}")
        try:
            options[key] = parse_yaml(value)
        except InputError as fault:
            raise InputError(f"--option {key}: not valid YAML: {value!r}: {fault}") from fault
    return options


def _output(arguments: argparse.Namespace, *names: str) -> Path:
    """The output folder, once it is known that the files can be written there."""
    folder = Path(arguments.output_dir)
    check_writable(folder)
    for name in names:
        if (folder / name).exists() and not arguments.overwrite:
            raise InputError(f"{folder / name} exists: choose another folder, or --overwrite")
    return folder


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
