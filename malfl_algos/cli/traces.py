"""Commands on single traces and rewards: `malfl learn`, `recover`, `score`, `export`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from malfl_algos.cli.import_texts import counted
from malfl_algos.cli.recovery import (
    asked_command,
    named_result,
    read_recovery,
    recovery_arguments,
)
from malfl_algos.cli.table import (
    Argument,
    argument,
    command,
    config_argument,
    count_arguments,
    existing,
    game_argument,
    given_game,
    known_scale_arguments,
    log,
    option_argument,
    picked,
    read_config,
    read_observed_config,
    read_options,
    scale_arguments,
    set_keys,
    tell,
    tell_of_compilation,
    whole,
    whole_argument,
)
from malfl_env.errors import InputError

__all__ = ["export", "learn", "recover_rewards", "score"]


def _output_arguments(what: str) -> Iterator[Argument]:
    yield argument(
        "--output-dir", metavar="DIR", required=True, help=f"write {what} into this folder"
    )
    yield argument("--overwrite", action="store_true", help="replace existing files in that folder")


@command(
    "learn",
    "Run a learner and save its trace and, in a separate file, the ground truth.",
    argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="use this learner (default: the learner of the configuration, ma-spi)",
    ),
    config_argument(),
    game_argument("not for a learner, which plays a game"),
    *_output_arguments("trace.npz and ground_truth.npz"),
    argument(
        "--reward-family",
        metavar="NAME",
        help="use this reward family (default: the first of the configuration, homogeneous)",
    ),
    *count_arguments(),
    *known_scale_arguments(),
    argument(
        "--seed",
        type=whole,
        metavar="K",
        help="use this seed (default: the first of the configuration, 0)",
    ),
    option_argument(),
    plugin="learner",
)
def learn(arguments: argparse.Namespace) -> int:
    """Run one learner in one reward family with one seed."""
    from malfl_algos.experiments.config import merge
    from malfl_algos.plugins.loading import find_plugin

    base = read_config(arguments.config, arguments.game)
    learner = picked(arguments.name or base.learner.name, [base.learner])
    learner["options"] = {**learner["options"], **read_options(arguments.option)}
    family = arguments.reward_family or base.reward_families[0]
    overrides: dict[str, Any] = {"learner": learner, "reward_families": [family]}
    overrides |= set_keys(
        arguments, "iterations", "episodes", "episode_length", "discount", "temperature"
    )
    if arguments.seed is not None:
        overrides["seeds"] = [arguments.seed]
    config = merge(base, overrides)
    plugin = find_plugin("learner", learner["name"])
    tell_of_compilation()
    from malfl_algos.experiments.cell import learn as run_learner
    from malfl_algos.experiments.cell import make_learner
    from malfl_algos.plugins.results import blaming
    from malfl_algos.storage.origins import files_together
    from malfl_algos.work.progress import Progress
    from malfl_algos.work.threads import one_blas_thread

    seed = config.seeds[0]
    config.markov_game(family)
    make_learner(config, seed=seed, keep_transitions=False)
    folder = _output(arguments, "trace.npz", "ground_truth.npz")
    bar = Progress("learning", config.iterations, log=log, unit="stages")
    with bar, one_blas_thread(), blaming(plugin):
        learned = run_learner(
            config, family=family, seed=seed, keep_transitions=False, each=bar.step
        )
    trace = learned.trace
    with files_together(folder) as place:
        trace.save(place / "trace.npz")
        learned.truth.save(place / "ground_truth.npz")
    tell(
        f"{folder / 'trace.npz'}: {counted(trace.n_stages, 'stage')}; {folder / 'ground_truth.npz'}"
    )
    return 0


@command(
    "recover",
    "Recover rewards from a saved trace.",
    argument(
        "trace",
        metavar="TRACE",
        help="read this trace.npz of malfl learn or reproduce, or this folder of a trace with "
        "observations",
    ),
    argument(
        "--observer",
        metavar="NAME",
        required=True,
        help="use this observer, by plugin name or by label in --config",
    ),
    *_output_arguments("rewards.npz, diagnostics.json and the observer's other results"),
    whole_argument(
        "--stages",
        "recover from the first N stages only; malfl score predicts the others (default: all)",
    ),
    *recovery_arguments(),
    plugin="observer",
)
def recover_rewards(arguments: argparse.Namespace) -> int:
    """Recover rewards from one trace with one observer, from the external perspective."""
    given = read_recovery(arguments)
    from malfl_algos.experiments.cell import recover
    from malfl_algos.experiments.recovered_files import write_recovered
    from malfl_algos.plugins.results import blaming
    from malfl_algos.storage.origins import Origin, files_together
    from malfl_algos.work.progress import Progress
    from malfl_algos.work.threads import one_blas_thread

    trace = given.trace
    if arguments.stages is not None:
        if not 1 <= arguments.stages <= trace.n_stages:
            raise InputError(
                f"--stages must be 1..{trace.n_stages}, the stages of {arguments.trace}; "
                f"got {arguments.stages}"
            )
        trace = trace.first(arguments.stages)
    folder = _output(arguments, "rewards.npz", "diagnostics.json")
    with Progress("recovering", None, log=log), one_blas_thread(), blaming(given.plugin):
        recovered = recover(given.observer, trace, **given.given)
    recovered = {name: named_result(own, given) for name, own in recovered.items()}
    origin = Origin.of(trace, **given.given)
    asked = asked_command(arguments, given)
    with files_together(folder) as place:
        written = write_recovered(
            recovered, place, origin=origin, observer=given.wanted, asked=asked
        )
        name = folder / written[0].relative_to(place)
    for line in given.defaults():
        tell(line)
    tell(f"{name}: rewards of {', '.join(recovered[''].agents)}")
    tell(f"verdict: {recovered[''].verdict.line()} (malfl check gives all reasons)")
    return 0


@command(
    "score",
    "Score recovered rewards against the ground truth, by held-out prediction, or both.",
    argument(
        "rewards", metavar="REWARDS", help="read this rewards.npz of malfl recover or reproduce"
    ),
    argument(
        "--ground-truth",
        metavar="FILE",
        help="compare with this ground_truth.npz of malfl learn or reproduce: correlation, "
        "distance (EPIC, STARC), regret and calibration; calibration "
        "needs posterior.npz beside REWARDS",
    ),
    argument(
        "--trace",
        metavar="FILE",
        help="predict held-out stages of this trace.npz from earlier stages, without ground truth: "
        "those that REWARDS were not recovered from (malfl recover --stages), else the last stage",
    ),
    config_argument(
        "scores count only joint states that can occur in its game (default: the paper's game)"
    ),
    game_argument(),
    *scale_arguments("use that of the ground truth, or the one estimated with the rewards"),
    argument(
        "--allow-unrelated",
        action="store_true",
        help="also score files that were not made from each other, such as rewards from a trace "
        "that was thinned, with the ground truth of the whole trace",
    ),
    argument(
        "--json",
        metavar="FILE",
        help="also write the scores into this file (or pipe, such as /dev/stdout)",
    ),
    argument(
        "--figure",
        metavar="FILE",
        help="also draw the rewards against those of --ground-truth into this PNG",
    ),
)
def score(arguments: argparse.Namespace) -> int:
    """Score recovered rewards against the ground truth, by held-out prediction, or both."""
    existing(arguments.rewards, arguments.ground_truth, arguments.trace)
    if arguments.figure is not None and arguments.ground_truth is None:
        raise InputError("--figure draws rewards against the ground truth: add --ground-truth FILE")
    from malfl_algos.experiments.config import merge

    config = read_observed_config(arguments)
    config = merge(config, set_keys(arguments, "discount", "temperature"))
    tell_of_compilation()
    from malfl_algos.experiments.named_games import NO_GAME
    from malfl_algos.experiments.scoring import read_scoring_files, rows_of_files
    from malfl_algos.experiments.text import score_text
    from malfl_algos.observers.reading import estimated_dynamics
    from malfl_algos.plugins.options import naming
    from malfl_algos.storage.durable import is_special, json_bytes, write_where_told
    from malfl_algos.storage.outputs import check_writable
    from malfl_algos.work.threads import one_blas_thread

    files = read_scoring_files(
        Path(arguments.rewards),
        ground_truth=_path(arguments.ground_truth),
        trace=_path(arguments.trace),
        config=config,
        config_given=given_game(arguments),
        related=not arguments.allow_unrelated,
    )
    if config.game == NO_GAME and files.trace is not None:
        files = replace(files, game=estimated_dynamics(files.trace))
    if files.note:
        log(f"malfl: {files.note}")
    with one_blas_thread(), naming(f"{arguments.rewards} does not fit"):
        rows = rows_of_files(files)
    if arguments.json is not None:
        told = Path(arguments.json)
        if not is_special(told):
            check_writable(told.resolve().parent)
        write_where_told(told, json_bytes(rows))
    if arguments.figure is not None:
        from malfl_algos.report.scatter import write_truth_figure

        write_truth_figure(files, Path(arguments.figure))
    tell(score_text(rows))
    return 0


@command(
    "export",
    "Write a trace for other tools: Minari's HDF5, or Parquet.",
    argument(
        "trace",
        metavar="TRACE",
        help="read this trace: a folder, or a trace.npz with transitions (malfl learn --option "
        "keep_transitions=true)",
    ),
    argument(
        "--format",
        choices=("minari", "parquet"),
        required=True,
        help="choose the format; both need the extra: pip install 'malfl-env[data]'",
    ),
    argument(
        "--output",
        metavar="PATH",
        required=True,
        help="write this file (parquet) or folder (minari); it must not exist",
    ),
    config_argument("it defines the game of a trace.npz (default: the paper's game)"),
    game_argument("unknown, an observation is the number of the joint state"),
)
def export(arguments: argparse.Namespace) -> int:
    """Write a trace for other tools."""
    existing(arguments.trace)
    from malfl_algos.storage.tables import export_minari, export_parquet
    from malfl_algos.trace import LearningTrace
    from malfl_algos.trace.matching import in_numbering_of

    trace = LearningTrace.load(arguments.trace)
    if trace.spaces is None:
        config = read_config(arguments.config, arguments.game)
        game = config.dynamics()
        if game is not None and given_game(arguments):
            trace = in_numbering_of(game, trace, name=arguments.trace)
        trace = trace.with_observations(game)
    write = {"minari": export_minari, "parquet": export_parquet}[arguments.format]
    write(trace, arguments.output)
    n_steps = sum(stage.n_steps for stage in trace.stages)
    tell(f"{arguments.output}: {counted(trace.n_stages, 'stage')}, {counted(n_steps, 'step')}")
    return 0


def _path(name: str | None) -> Path | None:
    return None if name is None else Path(name)


def _output(arguments: argparse.Namespace, *names: str) -> Path:
    """The output folder, after checks that the files can be written there."""
    from malfl_algos.storage.outputs import check_writable

    folder = Path(arguments.output_dir)
    check_writable(folder)
    for name in names:
        if (folder / name).exists() and not arguments.overwrite:
            raise InputError(f"{folder / name} exists: choose another folder, or add --overwrite")
    return folder
